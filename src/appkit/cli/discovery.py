"""Find the app's `AppKit` for a command: by an argument, APPKIT_KIT, pyproject.toml or the files in this folder."""

import importlib
import os
import re
import sys
import tomllib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from appkit.exceptions import AppKitError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from appkit.kit import AppKit

T = TypeVar("T")

USUAL_PLACES = ("main.py", "app.py", "app/main.py")
HINT = "Name its file, as in `appkit dev bookmarks.py`, or set APPKIT_KIT=bookmarks:kit."


@dataclass(frozen=True)
class FoundKit:
    """A kit, with its module and the name of its variable."""

    kit: "AppKit"
    module: ModuleType
    name: str

    @property
    def app_path(self) -> str:
        """The import string for an ASGI server: the module's `app`, or the kit's app if the module has none."""
        own = callable(getattr(self.module, "app", None))
        return f"{self.module.__name__}:{'app' if own else f'{self.name}.app'}"


def find_kit(target: str | None = None) -> FoundKit:
    """Import the kit at `target`: a file or a module, with or without `:name`. Without a target, find the app's kit.

    Raises:
        AppKitError: When there is no kit, or more than one.
    """
    target = target or os.environ.get("APPKIT_KIT") or configured_kit(Path())
    if target is not None:
        return _load(target)
    for place in filter(os.path.isfile, USUAL_PLACES):
        module = _import(*_locate(place))
        if kits := _kits(module):
            return _pick(module, kits)
    files = sorted(Path().glob("*.py"))
    candidates = [file.name for file in files if re.search(r"\bAppKit\(", file.read_text("utf-8", errors="replace"))]
    if len(candidates) > 1:
        raise AppKitError(f"More than one file in this folder creates an AppKit: {', '.join(candidates)}. {HINT}")
    if not candidates:
        raise AppKitError(f"There is no AppKit in this folder. {HINT}")
    return _load(candidates[0])


def configured_kit(folder: Path) -> str | None:
    """The value of `[tool.appkit] kit` in the folder's pyproject.toml."""
    path = folder / "pyproject.toml"
    if not path.is_file():
        return None
    tools: dict[str, dict[str, str]] = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
    return tools.get("appkit", {}).get("kit")


def run_in_session(kit: "AppKit", work: "Callable[[AsyncSession], Awaitable[T]]") -> T:
    """Start the kit without a worker, and call a function with a database session."""
    import anyio

    async def run() -> T:
        async with kit.lifespan(work=False), kit.session() as db:
            return await work(db)

    return anyio.run(run)


def _load(target: str) -> FoundKit:
    place, _, name = target.partition(":")
    module = _import(*_locate(place))
    kits = _kits(module)
    if name and name not in kits:
        raise AppKitError(f"{module.__name__} has no AppKit named {name!r}. {HINT}")
    return FoundKit(kits[name], module, name) if name else _pick(module, kits)


def _locate(place: str) -> tuple[str, Path]:
    """The dotted name of a module, and the directory that it is imported from."""
    if not place.endswith(".py"):
        return place, Path.cwd()
    path = Path(place).resolve()
    if not path.is_file():
        raise AppKitError(f"There is no file {place}. {HINT}")
    parts, root = [path.stem], path.parent
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    return ".".join(parts), root


def _import(name: str, root: Path) -> ModuleType:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        return importlib.import_module(name)
    except AppKitError:
        raise
    except Exception as exc:
        if isinstance(exc, ModuleNotFoundError) and name.partition(".")[0] == exc.name:
            raise AppKitError(f"There is no module {name!r} here. {HINT}") from exc
        raise AppKitError(f"{name} could not be imported: {_describe(exc)}") from exc


def _describe(exc: Exception) -> str:
    """Describe why a module failed to import, with the line."""
    if isinstance(exc, SyntaxError):
        return f"{exc.msg} ({exc.filename}, line {exc.lineno})."
    last = [frame for frame in extract_tb(exc.__traceback__) if not frame.filename.startswith("<")][-1]
    return f"{type(exc).__name__}: {exc} ({last.filename}, line {last.lineno})."


def _kits(module: ModuleType) -> dict[str, "AppKit"]:
    from appkit.kit import AppKit

    return {name: value for name, value in vars(module).items() if isinstance(value, AppKit)}


def _pick(module: ModuleType, kits: dict[str, "AppKit"]) -> FoundKit:
    distinct = {id(kit): name for name, kit in kits.items()}
    if not kits:
        raise AppKitError(f"{module.__name__} has no AppKit. {HINT}")
    if len(distinct) > 1 and "kit" not in kits:
        raise AppKitError(f"{module.__name__} has more than one AppKit: {', '.join(kits)}. Add the name after a colon.")
    name = "kit" if "kit" in kits else next(iter(kits))
    return FoundKit(kits[name], module, name)
