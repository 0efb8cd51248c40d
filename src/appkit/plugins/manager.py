"""Plugins of one app: found, checked, asked in order, and named when they fail."""

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from itertools import count
from typing import TYPE_CHECKING, Any

import pluggy

from appkit.exceptions import AppKitError
from appkit.plugins import hookspecs

if TYPE_CHECKING:
    from appkit.core.settings import PluginsSettings

logger = logging.getLogger(__name__)


class PluginManager:
    """The plugins of one app. The latest registered goes first.

    There are three ways to call a hook: `collect` what plugins contribute, ask for the `first` answer, and `notify`
    them all. pluggy's own call can't await, stops at the first failure and doesn't say whose it was.
    """

    def __init__(self, settings: "PluginsSettings") -> None:
        self._settings = settings
        self._manager = pluggy.PluginManager("appkit")
        self._manager.add_hookspecs(hookspecs)
        self.failed: dict[str, Exception] = {}
        """Installed plugins that could not be loaded, and why."""

    def names(self) -> list[str]:
        """The registered plugins, in the order in which they came."""
        return [name for name, _ in self._manager.list_name_plugin()]

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin.

        Args:
            plugin: A module or an object with hook implementations.
            name: What to call it in messages; unless given, the module's or the class's name.

        Raises:
            AppKitError: When it implements a hook that there isn't, takes arguments that the hook hasn't, wraps a
                hook, is async where the hook is not, or is registered already. Nothing of it is kept then.
        """
        name = name or self._free_name(plugin)
        if inspect.isclass(plugin):
            raise AppKitError(f"Plugin {name!r} is a class. Pass an instance of it.")
        for attribute in dir(plugin):
            options = self._manager.parse_hookimpl_opts(plugin, attribute)
            if options is not None:
                self._check(name, options.get("specname") or attribute, getattr(plugin, attribute), options)
        try:
            self._manager.register(plugin, name)
        except pluggy.PluginValidationError as exc:
            raise AppKitError(" ".join(str(exc).split())) from exc
        except ValueError as exc:
            raise AppKitError(f"Plugin {name!r} is registered already.") from exc

    def load_installed(self) -> None:
        """Add the plugins of installed packages, by name, except those in `PLUGINS_DISABLED`.

        One that fails is logged and kept in `failed`, and the others are loaded.

        Raises:
            AppKitError: When one fails and `PLUGINS_STRICT` is set.
        """
        for entry_point in sorted(entry_points(group="appkit"), key=lambda found: found.name):
            if entry_point.name not in self._settings.disabled:
                self._load(entry_point)

    def collect(self, hook: str, **kwargs: Any) -> list[Any]:
        """Gather what every plugin contributes. A failure is raised, with the plugin's name."""
        items: list[Any] = []
        for implementation in self._implementations(hook):
            with _blame(implementation, hook):
                answer = _call(implementation, kwargs)
            if type(answer) in (list, tuple):  # A HealthCheck is a tuple too, and one item.
                items.extend(answer)
            elif answer is not None:
                items.append(answer)
        return items

    async def first(self, hook: str, **kwargs: Any) -> Any | None:
        """Ask each plugin in turn and take the first answer that isn't None. A failure is raised, never skipped."""
        for implementation in self._implementations(hook):
            with _blame(implementation, hook):
                answer = await _resolve(_call(implementation, kwargs))
            if answer is not None:
                return answer
        return None

    async def notify(self, hook: str, **kwargs: Any) -> None:
        """Tell every plugin. One that fails is logged, and the others are still told."""
        for implementation in self._implementations(hook):
            try:
                await _resolve(_call(implementation, kwargs))
            except Exception:
                logger.exception("Plugin %r failed in %s().", implementation.plugin_name, hook)

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        return caller.get_hookimpls()[::-1]

    def _free_name(self, plugin: object) -> str:
        stem: str = getattr(plugin, "__name__", type(plugin).__name__)
        names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
        return next(name for name in names if name not in self.names())

    def _load(self, entry_point: EntryPoint) -> None:
        try:
            self.register(entry_point.load(), entry_point.name)
        except Exception as exc:
            if self._settings.strict:
                raise AppKitError(f"Plugin {entry_point.name!r} could not be loaded: {exc}") from exc
            logger.exception("Plugin %r could not be loaded, and the app goes on without it.", entry_point.name)
            self.failed[entry_point.name] = exc

    def _check(self, plugin: str, hook: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        if options.get("wrapper") or options.get("hookwrapper"):
            raise AppKitError(f"Plugin {plugin!r} wraps {hook}(), but hooks here can't be wrapped.")
        caller: pluggy.HookCaller | None = getattr(self._manager.hook, hook, None)
        if caller is None or caller.spec is None:
            if options.get("optionalhook"):
                return
            near = get_close_matches(hook, vars(self._manager.hook), n=1)
            hint = f" Did you mean {near[0]}()?" if near else ""
            raise AppKitError(f"Plugin {plugin!r} implements {hook}(), which is no hook.{hint}")
        if inspect.isasyncgenfunction(function):
            raise AppKitError(f"Plugin {plugin!r} needs @asynccontextmanager between @hookimpl and {hook}().")
        if inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(caller.spec.function):
            raise AppKitError(f"Plugin {plugin!r} has an async {hook}(), which must be a plain function.")


def _call(implementation: pluggy.HookImpl, kwargs: Mapping[str, Any]) -> Any:
    return implementation.function(*(kwargs[name] for name in implementation.argnames))


async def _resolve(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


@contextmanager
def _blame(implementation: pluggy.HookImpl, hook: str) -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        exc.add_note(f"Raised by plugin {implementation.plugin_name!r} in {hook}().")
        raise
