"""The version, in a module that nothing needs to be installed to read."""

__version__ = "0.1.0"
