"""Scores of documents: what they look like, whether they parse, what a model thinks of them; a table beside the corpus."""
