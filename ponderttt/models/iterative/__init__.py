"""The token level: a transformer trained from scratch, with TTT layers in its middle."""
