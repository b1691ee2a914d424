"""These tests prepare the tiny recipe."""

from tiny_run import tiny  # noqa: F401
