"""The tiny recipe with its corpora."""

from tiny_run import tiny  # noqa: F401
