"""The page of the token oracle."""
