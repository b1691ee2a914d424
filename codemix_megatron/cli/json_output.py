"""What commands print for scripts: one JSON document on standard output, and nothing else there."""

import argparse
import json
import math
import sys
from dataclasses import asdict, is_dataclass

__all__ = ["add_json_option", "print_json"]


def add_json_option(parser: argparse.ArgumentParser, what: str = "this") -> None:
    """Declare --json."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON and nothing else")


def print_json(value) -> None:
    """Print a dataclass, or plain values that may hold some; numbers that are not finite become null, which every reader takes."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value):
    """Return a value as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
