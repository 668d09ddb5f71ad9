"""Policies trained where text is read live, document by document: what no tree could hold."""
