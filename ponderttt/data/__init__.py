"""Named sources, tokenizers and documents cut into units."""
