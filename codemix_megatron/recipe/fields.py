"""How fields of a recipe's dataclasses are declared: help text, default, reader."""

from dataclasses import field

__all__ = ["option", "tokens"]


def option(help_text: str, default=..., *, factory=None, reader=None):
    """Declare a field with its help; `reader` is a special reading of its value: a name, or a function of value, path and faults."""
    metadata = {"help": help_text, "reader": reader}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    if default is ...:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def tokens(help_text: str, default=...):
    """Declare a field that holds a token count such as 1.5M."""
    return option(help_text, default, reader="tokens")
