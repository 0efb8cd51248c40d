"""The version. Build tools read this module before the package is installed."""

__version__ = "0.1.0"
