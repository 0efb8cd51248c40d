"""Markers: `hookspec` declares a hook, `hookimpl` implements one, `provisional` says that a hook may still change."""

from typing import Final, TypeVar

import pluggy

SpecT = TypeVar("SpecT")

hookspec: Final = pluggy.HookspecMarker("appkit")
"""Marks a function without a body as a hook that an app offers, with `AppKit(hooks=[…])`."""
hookimpl: Final = pluggy.HookimplMarker("appkit")
"""Marks a function as the implementation of the hook with its name."""


def provisional(spec: SpecT) -> SpecT:
    """Marks a hook that nothing in appkit implements: its arguments may change in a minor release."""
    return spec
