"""These tests read a made run."""

from made_run import finished  # noqa: F401
