"""Adapters: how fast weights change what the frozen language model predicts."""
