"""What installed packages add without changing this one: entry points of six groups, found by name and loaded when a recipe names them.

A package declares them as Python's packaging has it, `[project.entry-points."codemix_megatron.readers"]`; docs/extend.md has one of each.
"""

import functools
import importlib.metadata
import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from codemix_megatron.errors import CodemixError

__all__ = ["GROUPS", "Plugin", "PluginError", "find_plugin", "needed_plugin", "plugin_file", "plugins_of"]

# group -> what an entry point of it is
GROUPS = {
    "readers": "what `documents: [NAME:...]` reads: a function of what follows the colon and of the corpus's block",
    "filters": "a filter that `filters.plugins` names: a function of its settings that returns a check of documents",
    "recognisers": "a form of personal data that `filters.personal_data` names: a function that returns what finds it in a text",
    "observers": "where events of a run go, by `observers.plugins`: a function of recipe, run folder and step",
    "families": "a Hugging Face architecture: a Family",
    "suites": "tasks for `codemix evaluate --suite NAME`: the path of a suite's YAML file",
    "sites": "a cluster for `--site NAME`: the path of a site's YAML file",
}
SINGULAR = {group: group[:-1] for group in GROUPS} | {"families": "family"}
PREFIX = "codemix_megatron."
NAME = re.compile(r"[\w-]+")  # what is no path


class PluginError(CodemixError):
    """A plugin that is not there, is there twice, or cannot be loaded."""


@dataclass(frozen=True)
class Plugin:
    """One entry point of an installed package; `made_by` is the package and its version."""

    group: str
    name: str
    value: str
    made_by: str
    entry_point: importlib.metadata.EntryPoint

    def load(self) -> Any:
        """Import it; raises PluginError with the reason, whatever its package raises."""
        try:
            return self.entry_point.load()
        except Exception as fault:
            raise PluginError(f"{self.title} cannot be loaded from {self.value}: {type(fault).__name__}: {fault}") from fault

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{SINGULAR[self.group]} {self.name!r} of {self.made_by}"


@functools.cache
def plugins_of(group: str) -> tuple[Plugin, ...]:
    """Return the entry points of a group in all installed packages, by name."""
    found = importlib.metadata.entry_points(group=f"{PREFIX}{group}")
    return tuple(sorted((plugin_of(group, point) for point in found), key=lambda plugin: (plugin.name, plugin.made_by)))


def plugin_of(group: str, point: importlib.metadata.EntryPoint) -> Plugin:
    """Return an entry point with the package that declares it."""
    made_by = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
    return Plugin(group, point.name, point.value, made_by, point)


def find_plugin(group: str, name: str) -> Plugin | None:
    """Return the plugin of this name, None where no package has one; raises PluginError where two have."""
    found = {plugin.made_by: plugin for plugin in plugins_of(group) if plugin.name == name}
    if len(found) > 1:
        raise PluginError(f"{SINGULAR[group]} {name!r} is declared by {' and by '.join(found)}; uninstall one of them")
    return next(iter(found.values()), None)


def plugin_file(group: str, name: str) -> Path | None:
    """Return the file that a plugin of this name stands for, None where no package has one; raises PluginError where it is no file."""
    if not NAME.fullmatch(name) or (plugin := find_plugin(group, name)) is None:
        return None
    named = plugin.load()
    if not isinstance(named, (str, PathLike)) or not Path(named).is_file():
        raise PluginError(f"{plugin.title}: gave {named!r}, needs the path of a YAML file that its package has installed")
    return Path(named)


def needed_plugin(group: str, name: str) -> Plugin:
    """Return the plugin of this name; raises PluginError where no package has one."""
    if (found := find_plugin(group, name)) is None:
        names = ", ".join(plugin.name for plugin in plugins_of(group)) or "none"
        raise PluginError(
            f"no installed package has a {SINGULAR[group]} {name!r} (found: {names}); install the package that has it into this environment;"
            " `codemix doctor --plugins` lists what is installed"
        )
    return found
