"""PluginManager: finds, validates and calls the plugins of one app."""

import inspect
import logging
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from itertools import count
from time import perf_counter
from types import ModuleType
from typing import Any

import pluggy

from appkit.exceptions import AppKitError

logger = logging.getLogger(__name__)


class PluginManager:
    """The plugins of one app. The plugin that was registered last is called first.

    Three methods call a hook. `collect` (or `gather`, if the hook is async) returns all contributions, `first` returns
    the first answer, and `notify` calls each plugin. pluggy's own call can't await, stops at the first failure and
    doesn't name the plugin.

    If an installed plugin fails while the app is built, the failure is logged and kept in `failed`, and the app starts
    without the plugin's contribution. Failures of the app's own plugins are always raised.

    `hooks` are the modules or classes that declare the hooks. The other arguments are the settings `PLUGINS_…`.
    """

    def __init__(
        self,
        hooks: Collection[ModuleType | type],
        *,
        disabled: Collection[str] = (),
        strict: bool = False,
        trace: bool = False,
    ) -> None:
        self._manager = pluggy.PluginManager("appkit")
        for namespace in hooks:
            self._manager.add_hookspecs(namespace)
        self._disabled = disabled
        self._strict = strict
        self._trace = trace
        self._installed: set[str] = set()
        self.failed: dict[str, Exception] = {}
        """The exceptions of installed plugins that failed while the app was built, by the name of the plugin."""

    def names(self, hook: str | None = None) -> list[str]:
        """The names of the plugins that implement a hook, or of all plugins, in order of registration."""
        names = [name for name, _ in self._manager.list_name_plugin()]
        if hook is None:
            return names
        implementing = {implementation.plugin_name for implementation in self._implementations(hook)}
        return [name for name in names if name in implementing]

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin, which is a module or an object with hook implementations.

        Raises:
            AppKitError: When the plugin is registered already, or one of its hook implementations is invalid. Then no
                part of the plugin is registered.
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
        """Add the plugins of installed packages, sorted by name, except those in `PLUGINS_DISABLED`."""
        for entry_point in installed_plugins(tuple(sys.path)):
            name = entry_point.name
            if name not in self._disabled:
                try:
                    self.register(entry_point.load(), name)
                    self._installed.add(name)
                except Exception as exc:  # noqa: BLE001 - `_fail` raises or logs it
                    self._fail(name, "could not be loaded", exc)

    def collect(self, hook: str, **kwargs: Any) -> list[Any]:
        """Collect the contributions of all plugins. A failure is raised, with the plugin's name as a note.

        A failure of an installed plugin in a `register_` hook is only kept in `failed`, unless `PLUGINS_STRICT` is set.
        """
        items: list[Any] = []
        for implementation in self._implementations(hook):
            try:
                with self._observe(implementation, hook):
                    answer = _call(implementation, kwargs)
            except Exception as exc:
                if not hook.startswith("register_") or implementation.plugin_name not in self._installed:
                    raise
                self._fail(implementation.plugin_name, f"failed in {hook}()", exc)
            else:
                _add(items, answer)
        return items

    async def gather(self, hook: str, **kwargs: Any) -> list[Any]:
        """Like `collect`, for a hook that is an `async def`. Every failure is raised."""
        items: list[Any] = []
        for implementation in self._implementations(hook):
            with self._observe(implementation, hook):
                _add(items, await _await(implementation, kwargs))
        return items

    async def first(self, hook: str, **kwargs: Any) -> Any | None:
        """Call each plugin in turn, and return the first answer that isn't None. Every failure is raised."""
        for implementation in self._implementations(hook):
            with self._observe(implementation, hook):
                answer = await _await(implementation, kwargs)
            if answer is not None:
                return answer
        return None

    async def notify(self, hook: str, **kwargs: Any) -> None:
        """Call every plugin. A failure is logged, and the others are still called.

        Raises:
            Exception: The first failure, after all plugins have been called, if `PLUGINS_STRICT` is set.
        """
        failure: Exception | None = None
        for implementation in self._implementations(hook):
            try:
                with self._observe(implementation, hook):
                    await _await(implementation, kwargs)
            except Exception as exc:
                logger.exception("Plugin %r failed in %s().", implementation.plugin_name, hook)
                failure = failure or exc
        if failure is not None and self._strict:
            raise failure

    async def notify_one(self, plugin: str, hook: str, **kwargs: Any) -> None:
        """Call one plugin if it is registered. A failure is logged and raised."""
        for implementation in self._implementations(hook):
            if implementation.plugin_name == plugin:
                try:
                    with self._observe(implementation, hook):
                        await _await(implementation, kwargs)
                except Exception:
                    logger.exception("Plugin %r failed in %s().", plugin, hook)
                    raise

    async def enter(self, stack: AsyncExitStack, **kwargs: Any) -> None:
        """Enter the `lifespan` of each plugin. Failures are handled as in a `register_` hook."""
        for implementation in self._implementations("lifespan"):
            try:
                with self._observe(implementation, "lifespan"):
                    await stack.enter_async_context(_call(implementation, kwargs))
            except Exception as exc:
                if implementation.plugin_name not in self._installed:
                    raise
                self._fail(implementation.plugin_name, "failed in lifespan()", exc)

    def implements(self, hook: str) -> bool:
        """Whether a plugin implements the hook."""
        return bool(self._implementations(hook))

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        return caller.get_hookimpls()[::-1]

    def _free_name(self, plugin: object) -> str:
        stem: str = getattr(plugin, "__name__", type(plugin).__name__)
        names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
        return next(name for name in names if name not in self.names())

    @contextmanager
    def _observe(self, implementation: pluggy.HookImpl, hook: str) -> Iterator[None]:
        """Add the plugin's name to its exception as a note, and log the call if `PLUGINS_TRACE` is set."""
        started = perf_counter()
        try:
            yield
        except Exception as exc:
            exc.add_note(f"Raised by plugin {implementation.plugin_name!r} in {hook}().")
            raise
        finally:
            if self._trace:  # Without arguments and answers, because they may be secrets.
                milliseconds = (perf_counter() - started) * 1000
                logger.info("%s() of plugin %r took %.2f ms.", hook, implementation.plugin_name, milliseconds)

    def _fail(self, name: str, what: str, exc: Exception) -> None:
        """Keep the failure of an installed plugin, or raise it if `PLUGINS_STRICT` is set."""
        if self._strict:
            raise AppKitError(f"Plugin {name!r} {what}: {type(exc).__name__}: {exc}") from exc
        if name not in self.failed:  # A failing health check fails at each request, but is logged once.
            logger.error("Plugin %r %s. The app runs without it.", name, what, exc_info=exc)
        self.failed[name] = exc

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
            raise AppKitError(f"Plugin {plugin!r} has an async {hook}(). Make it a plain function.")


@lru_cache
def installed_plugins(_path: tuple[str, ...]) -> list[EntryPoint]:
    """The entry points on a `sys.path`, by name. Cached, because finding them reads the metadata of all packages."""
    return sorted(entry_points(group="appkit"), key=lambda found: found.name)


def _add(items: list[Any], answer: Any) -> None:
    if type(answer) in (list, tuple):  # Not isinstance: a single HealthCheck is a tuple, too.
        items.extend(answer)
    elif answer is not None:
        items.append(answer)


def _call(implementation: pluggy.HookImpl, kwargs: Mapping[str, Any]) -> Any:
    return implementation.function(*[kwargs[name] for name in implementation.argnames])


async def _await(implementation: pluggy.HookImpl, kwargs: Mapping[str, Any]) -> Any:
    answer = _call(implementation, kwargs)
    return await answer if inspect.isawaitable(answer) else answer
