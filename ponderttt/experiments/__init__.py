"""One function and one frozen configuration per notebook."""
