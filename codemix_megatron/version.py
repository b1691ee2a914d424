"""The version, in one place; setup.py reads it without importing the package."""

__all__ = ["__version__"]

__version__ = "0.1.0"
