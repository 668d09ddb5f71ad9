"""The frozen language model: one decoder, its families, its weights and its states."""
