"""Optional features. Each one is a plugin that uses only public names and hooks."""

from collections.abc import Iterator
from contextlib import contextmanager

from appkit.exceptions import AppKitError


@contextmanager
def required_by(plugin: str) -> Iterator[None]:
    """A block that imports the packages of a plugin's extra.

    Raises:
        AppKitError: When a package is not installed. The message has the command that installs the extra.
    """
    try:
        yield
    except ImportError as exc:
        raise AppKitError(
            f"The plugin {plugin} needs the package {exc.name}, which is not installed. "
            f"Install it: pip install 'fastapi-appkit[{plugin.replace('_', '-')}]'."
        ) from exc
