"""The study of allocation: who decides where steps go, calibrated to one budget and compared."""
