"""Some of these tests read the tiny recipe's corpora."""

from tiny_run import tiny  # noqa: F401
