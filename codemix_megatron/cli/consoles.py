"""The console that tables and progress bars are drawn on: names of files, languages and corpora are no markup there."""

import sys

import rich.console

from codemix_megatron.printable import PrintableStream, printable

__all__ = ["Console"]


class Console(rich.console.Console):
    """Rich's console; texts are shown as they are, unless `markup` asks for styles in them."""

    def __init__(self, *, file=None, markup: bool = False, **options):
        file = sys.stdout if file is None else file
        super().__init__(file=file.plain if isinstance(file, PrintableStream) else file, markup=markup, emoji=False, **options)

    def render_str(self, text: str, **options):
        """Render a text without the control characters in it."""
        return super().render_str(printable(text), **options)
