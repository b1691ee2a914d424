"""These tests train the tiny recipe."""

from tiny_run import tiny  # noqa: F401
