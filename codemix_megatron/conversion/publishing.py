"""What a conversion writes appears complete under its name, or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codemix_megatron.errors import ConversionError
from codemix_megatron.records.atomic import writing_folder

__all__ = ["publishing"]


@contextmanager
def publishing(folder: Path, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder that gets the name `folder` at the end (see `writing_folder`); raises ConversionError when the disk refuses."""
    try:
        with writing_folder(folder, replace=replace) as partial:
            yield partial
    except OSError as fault:
        raise ConversionError(f"{folder}: could not be written ({fault.strerror or fault})", exit_code=1) from fault
