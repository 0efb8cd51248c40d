"""PluginManager: finds, validates and calls the plugins of one app, and names the one that fails."""

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
    """The plugins of one app. The latest registered is called first.

    There are three ways to call a hook: `collect` (or `gather`) all contributions, ask for the `first` answer, or
    `notify` every plugin. pluggy's own call can't await, stops at the first failure and doesn't name the plugin.

    An installed plugin that fails while the app is built is logged and kept in `failed`, and the app starts without
    its contribution; with `strict` the failure is raised. Failures of the app's own plugins are always raised.

    Args:
        hooks: The modules or classes that declare the hooks.
        disabled: Names of installed plugins to leave out.
        strict: Whether failures of installed plugins and of observers are raised.
        trace: Whether each call is logged with its duration.
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
        self._log_calls = trace
        self._installed: set[str] = set()
        self.failed: dict[str, Exception] = {}
        """Installed plugins that could not be loaded or failed while the app was built, with the exception."""

    def names(self, hook: str | None = None) -> list[str]:
        """The names of the plugins, in order of registration; with `hook`, only of the plugins that implement it."""
        names = [name for name, _ in self._manager.list_name_plugin()]
        if hook is None:
            return names
        implementing = {implementation.plugin_name for implementation in self._implementations(hook)}
        return [name for name in names if name in implementing]

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin.

        Args:
            plugin: A module or an object with hook implementations.
            name: Its name in messages; by default, the name of the module or class.

        Raises:
            AppKitError: When the plugin implements an unknown hook, takes an argument that the hook doesn't have, wraps
                a hook, is async where the hook is not, or is registered already. Then no part of it is registered.
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
        """Add the plugins of installed packages, sorted by name, except those in `PLUGINS_DISABLED`.

        A plugin that fails is logged and kept in `failed`, and the others are loaded.

        Raises:
            AppKitError: When a plugin fails and `PLUGINS_STRICT` is set.
        """
        for entry_point in installed_plugins(tuple(sys.path)):
            if entry_point.name not in self._disabled:
                self._load(entry_point)

    def collect(self, hook: str, **kwargs: Any) -> list[Any]:
        """Collect the contributions of all plugins.

        A failure is raised with the plugin's name. But an installed plugin's failure in a `register_` hook is only
        logged and kept in `failed`, unless `PLUGINS_STRICT` is set.
        """
        items: list[Any] = []
        for implementation in self._implementations(hook):
            try:
                with _name_plugin(implementation, hook):
                    answer = self._call(implementation, hook, kwargs)
            except Exception as exc:
                if not hook.startswith("register_"):
                    raise
                self._fail(implementation, hook, exc)
                continue
            _add(items, answer)
        return items

    async def gather(self, hook: str, **kwargs: Any) -> list[Any]:
        """Like `collect`, for a hook that is an `async def`. Every failure is raised."""
        items: list[Any] = []
        for implementation in self._implementations(hook):
            with _name_plugin(implementation, hook):
                _add(items, await self._await(implementation, hook, kwargs))
        return items

    async def first(self, hook: str, **kwargs: Any) -> Any | None:
        """Call each plugin in turn and return the first answer that isn't None. A failure is raised, never skipped."""
        for implementation in self._implementations(hook):
            with _name_plugin(implementation, hook):
                answer = await self._await(implementation, hook, kwargs)
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
                with _name_plugin(implementation, hook):
                    await self._await(implementation, hook, kwargs)
            except Exception as exc:
                logger.exception("Plugin %r failed in %s().", implementation.plugin_name, hook)
                failure = failure or exc
        if failure is not None and self._strict:
            raise failure

    async def notify_one(self, plugin: str, hook: str, **kwargs: Any) -> None:
        """Call one plugin, if it is still registered. A failure is logged and raised."""
        for implementation in self._implementations(hook):
            if implementation.plugin_name == plugin:
                try:
                    await self._await(implementation, hook, kwargs)
                except Exception:
                    logger.exception("Plugin %r failed in %s().", plugin, hook)
                    raise

    async def enter(self, stack: AsyncExitStack, **kwargs: Any) -> None:
        """Enter the `lifespan` of each plugin. A failure is handled as in `collect`."""
        for implementation in self._implementations("lifespan"):
            try:
                with _name_plugin(implementation, "lifespan"):
                    await stack.enter_async_context(self._call(implementation, "lifespan", kwargs))
            except Exception as exc:  # noqa: BLE001 - `_fail` raises or logs it
                self._fail(implementation, "lifespan", exc)

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

    def _call(self, implementation: pluggy.HookImpl, hook: str, kwargs: Mapping[str, Any]) -> Any:
        arguments = [kwargs[name] for name in implementation.argnames]
        if not self._log_calls:
            return implementation.function(*arguments)
        with _trace(implementation, hook):
            return implementation.function(*arguments)

    async def _await(self, implementation: pluggy.HookImpl, hook: str, kwargs: Mapping[str, Any]) -> Any:
        answer = self._call(implementation, hook, kwargs)
        if not inspect.isawaitable(answer):
            return answer
        if not self._log_calls:
            return await answer
        with _trace(implementation, f"await {hook}"):
            return await answer

    def _fail(self, implementation: pluggy.HookImpl, hook: str, exc: Exception) -> None:
        """Record an installed plugin's failure while the app is built; raise the failure of any other plugin."""
        name = implementation.plugin_name
        if name not in self._installed:
            raise exc
        if self._strict:
            raise AppKitError(f"Plugin {name!r} failed in {hook}(): {type(exc).__name__}: {exc}") from exc
        if name not in self.failed:  # Once, because health checks are collected again and again.
            logger.error("Plugin %r failed in %s(). The app runs without it.", name, hook, exc_info=exc)
        self.failed[name] = exc

    def _load(self, entry_point: EntryPoint) -> None:
        try:
            self.register(entry_point.load(), entry_point.name)
            self._installed.add(entry_point.name)
        except Exception as exc:
            if self._strict:
                raise AppKitError(f"Plugin {entry_point.name!r} could not be loaded: {exc}") from exc
            logger.exception("Plugin %r could not be loaded. The app runs without it.", entry_point.name)
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
            raise AppKitError(f"Plugin {plugin!r} has an async {hook}(). Make it a plain function.")


@lru_cache
def installed_plugins(_path: tuple[str, ...]) -> list[EntryPoint]:
    """The entry points on a `sys.path`, by name. Cached: finding them reads the metadata of every distribution."""
    return sorted(entry_points(group="appkit"), key=lambda found: found.name)


def _add(items: list[Any], answer: Any) -> None:
    if type(answer) in (list, tuple):  # Not isinstance: a HealthCheck is a named tuple, and one item.
        items.extend(answer)
    elif answer is not None:
        items.append(answer)


@contextmanager
def _trace(implementation: pluggy.HookImpl, hook: str) -> Iterator[None]:
    """Log a call and its duration. Arguments and answers aren't logged, because they may be secrets."""
    started = perf_counter()
    try:
        yield
    finally:
        milliseconds = (perf_counter() - started) * 1000
        logger.info("%s() of plugin %r took %.2f ms.", hook, implementation.plugin_name, milliseconds)


@contextmanager
def _name_plugin(implementation: pluggy.HookImpl, hook: str) -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        exc.add_note(f"Raised by plugin {implementation.plugin_name!r} in {hook}().")
        raise
