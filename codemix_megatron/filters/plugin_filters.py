"""Filters and recognisers of personal data that installed packages add."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from codemix_megatron.errors import CorpusError
from codemix_megatron.plugins import Plugin, needed_plugin
from codemix_megatron.readers.documents import Document
from codemix_megatron.recipe.filtering import FilterSpec, PersonalRecogniser

__all__ = ["PluginCheck", "filter_packages", "find_by_recogniser"]


class PluginCheck:
    """A check of documents that a plugin makes of its settings; made again in each process, so that nothing of it is pickled."""

    def __init__(self, name: str, settings: dict):
        self.name, self.settings = name, settings
        self.plugin = needed_plugin("filters", name)
        self.check = called(self.plugin, f"filters.plugins.{name}", dict(settings))

    def __reduce__(self):
        return PluginCheck, (self.name, self.settings)

    def __call__(self, document: Document) -> str | None:
        """Return what the plugin found in a document, None where it may stay."""
        found = called_with(self.check, self.plugin, document.identity, document)
        if found is not None and not isinstance(found, str):
            raise CorpusError(f"{self.plugin.title}: gave {found!r} for {document.identity}, needs text (what it found) or None (keep it)")
        return found


def find_by_recogniser(name: str, text: str) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of what a recogniser among the plugins finds in a text."""
    plugin, find = loaded_recogniser(name)
    for begin, end in called_with(lambda: list(find(text)), plugin, "a text"):
        if not 0 <= begin < end <= len(text):
            raise CorpusError(
                f"{plugin.title}: found characters {begin} to {end} of a text of {len(text)}; needs 0 <= begin < end <= length"
            )
        yield begin, end


@functools.cache
def loaded_recogniser(name: str) -> tuple[Plugin, Callable[[str], Any]]:
    """Return a recogniser with what finds, made once in each process, for a model takes its time to load."""
    plugin = needed_plugin("recognisers", name)
    return plugin, called(plugin, f"filters.personal_data: recogniser {name}")


def called(plugin: Plugin, where: str, *arguments: Any) -> Callable:
    """Call what a plugin gives and return the function it makes; raises CorpusError for settings it refuses."""
    try:
        made = plugin.load()(*arguments)
    except CorpusError:
        raise
    except Exception as fault:
        raise CorpusError(f"{where}: {plugin.title} refuses its settings: {type(fault).__name__}: {fault}") from fault
    if not callable(made):
        raise CorpusError(f"{where}: {plugin.title} gave {made!r}, needs a function")
    return made


def called_with(function: Callable, plugin: Plugin, what: str, *arguments: Any) -> Any:
    """Call a plugin's function; whatever it raises ends the command with its name and what it was given."""
    try:
        return function(*arguments)
    except Exception as fault:
        raise CorpusError(f"{plugin.title} failed on {what}: {type(fault).__name__}: {fault}") from fault


def filter_packages(spec: FilterSpec | None) -> list[str]:
    """Return the packages, with versions, whose filters and recognisers are used: they decide what a corpus holds."""
    if spec is None:
        return []
    recognisers = [form.recogniser for form in spec.personal_data if isinstance(form, PersonalRecogniser)]
    used = [*(("filters", name) for name in spec.plugins), *(("recognisers", name) for name in recognisers)]
    return sorted({needed_plugin(group, name).made_by for group, name in used})
