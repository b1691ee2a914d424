"""These tests train the tiny recipe, on two versions of megatron-core."""

from tiny_run import tiny  # noqa: F401
