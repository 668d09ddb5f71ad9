"""One folder a page: its charts, its claims, its text."""
