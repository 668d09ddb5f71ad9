"""Slow weights: the decoder, its import and what is built on it."""
