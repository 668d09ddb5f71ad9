"""The batch runner: notebooks, their gate, finished pages, the book."""
