"""Where code is, and whose it is: nobody is told to change what they installed."""

import inspect
import os
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

_OTHERS = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parents[2]))


def plain(function: Any) -> Callable[..., Any]:
    """The function itself, without partials and decorators around it."""
    while isinstance(function, partial):
        function = function.func
    unwrapped: Callable[..., Any] = inspect.unwrap(function)
    return unwrapped


def is_own(file: str | None) -> bool:
    """Whether a file is the app's, rather than Python's, appkit's or an installed package's."""
    return file is not None and not file.startswith(_OTHERS)


def place(function: Callable[..., Any], line: int | None = None) -> str:
    """As in `api/posts.py:12`, from the working directory."""
    code = function.__code__
    return f"{os.path.relpath(code.co_filename)}:{line or code.co_firstlineno}"
