"""Costs, metrics and statistics."""
