"""Keep the chatter of other libraries away from those who asked for a score."""

import contextlib
import io
import logging
import sys
import warnings

__all__ = ["quiet"]

CHATTERING = ("datasets", "lm_eval", "transformers")


@contextlib.contextmanager
def quiet():
    """Hide log lines below errors, warnings, and progress bars, which all go to stderr; errors are raised as ever.

    The value is a decorator for functions that shall still reach stderr.
    """
    loggers, heard = [logging.getLogger(name) for name in CHATTERING], sys.stderr
    levels = [logger.level for logger in loggers]

    def aloud(function):
        def call(*positional, **named):
            with contextlib.redirect_stderr(heard):
                return function(*positional, **named)

        return call

    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield aloud
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
