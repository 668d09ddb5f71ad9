"""What turns results into pages: records, charts, claims, the batch runner and the book."""
