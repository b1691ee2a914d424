"""Readers that installed packages add: `documents: [NAME:what it is called there]`."""

from collections.abc import Sequence

from codemix_megatron.errors import CorpusError
from codemix_megatron.plugins import Plugin, find_plugin
from codemix_megatron.readers.documents import InputFile
from codemix_megatron.recipe.schema import CorpusSpec

__all__ = ["inputs_of_plugin", "reader_packages", "reader_plugin"]


def reader_plugin(named: str) -> Plugin | None:
    """Return the plugin that the word before the colon names; None where there is none."""
    name, colon, _ = named.partition(":")
    return find_plugin("readers", name) if colon and name.isidentifier() else None


def inputs_of_plugin(plugin: Plugin, named: str, spec: CorpusSpec) -> list[InputFile]:
    """Return the inputs that a plugin finds; raises CorpusError for none, and for whatever it raises."""
    try:
        inputs = list(plugin.load()(named, spec))
    except (CorpusError, OSError):
        raise
    except Exception as fault:
        raise CorpusError(f"{plugin.title} failed on {named!r}: {type(fault).__name__}: {fault}") from fault
    if wrong := [found for found in inputs if not isinstance(found, InputFile)]:
        raise CorpusError(f"{plugin.title}: gave {wrong[0]!r}, needs codemix_megatron.readers.documents.InputFile")
    if not inputs:
        raise CorpusError(f"{plugin.title}: found nothing in {named!r}")
    return inputs


def reader_packages(documents: Sequence[str]) -> list[str]:
    """Return the packages, with versions, whose readers a corpus uses: they decide what it holds."""
    return sorted({plugin.made_by for named in documents if (plugin := reader_plugin(named))})
