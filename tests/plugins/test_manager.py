"""Plugins: found, checked, asked in order, and named when they fail."""

import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from appkit.api.hookspecs import HealthCheck
from appkit.exceptions import AppKitError
from appkit.kit import HOOKS
from appkit.plugins.manager import PluginManager
from appkit.plugins.markers import hookimpl, hookspec

Install = Callable[..., None]


class Answers:
    """A plugin that adds what it was made with."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    @hookimpl
    def check_password(self, password: str) -> list[Any]:
        return [f"{answer}:{password}" for answer in self.answers]


class Fails:
    """A plugin with a bug."""

    @hookimpl
    def check_password(self) -> list[str]:
        raise ValueError("bug")

    @hookimpl
    def on_exception(self) -> None:
        raise ValueError("bug")


@pytest.fixture
def plugins() -> PluginManager:
    return PluginManager(HOOKS)


def answering(word: str) -> str:
    return f"from appkit import hookimpl\n\n@hookimpl\ndef check_password():\n    return ['{word}']\n"


# Three calls


def test_collect_asks_the_latest_registered_first(plugins: PluginManager):
    plugins.register(Answers("a", "b"))
    plugins.register(Answers("c"))
    assert plugins.collect("check_password", password="p", user=None) == ["c:p", "a:p", "b:p"]


def test_collect_honours_tryfirst_and_trylast(plugins: PluginManager):
    for word, marker in (
        ("first", hookimpl(tryfirst=True)),
        ("last", hookimpl(trylast=True)),
        ("middle", hookimpl),
    ):
        plugins.register(SimpleNamespace(check_password=marker(lambda word=word: [word])))
    assert plugins.collect("check_password", password="p", user=None) == ["first", "middle", "last"]


def test_collect_takes_a_list_a_tuple_one_item_or_nothing(plugins: PluginManager):
    async def check(_: object) -> None: ...

    one = HealthCheck("one", check)
    for answer in ([one], (one, one), one, None, []):
        plugins.register(SimpleNamespace(register_health_checks=hookimpl(lambda answer=answer: answer)))
    assert plugins.collect("register_health_checks") == [one] * 4


def test_collect_raises_a_failure_with_the_plugins_name(plugins: PluginManager):
    plugins.register(Answers("a"))
    plugins.register(Fails(), "broken")
    with pytest.raises(ValueError, match="bug") as caught:
        plugins.collect("check_password", password="p", user=None)
    assert caught.value.__notes__ == ["Raised by plugin 'broken' in check_password()."]


async def test_first_takes_the_first_answer_sync_or_async(plugins: PluginManager):
    class Silent:
        @hookimpl
        async def on_exception(self) -> None:
            return None

    class Speaks:
        @hookimpl
        async def on_exception(self, exception: Exception) -> str:
            return repr(exception)

    class NeverAsked:
        @hookimpl
        def on_exception(self) -> None:
            raise AssertionError

    assert await plugins.first("on_exception", exception=KeyError()) is None
    for plugin in (NeverAsked(), Speaks(), Silent()):
        plugins.register(plugin)
    assert await plugins.first("on_exception", exception=KeyError()) == "KeyError()"


async def test_first_never_skips_a_failure(plugins: PluginManager):
    plugins.register(SimpleNamespace(on_exception=hookimpl(lambda: "answer")))
    plugins.register(Fails(), "broken")
    with pytest.raises(ValueError, match="bug") as caught:
        await plugins.first("on_exception", exception=KeyError())
    assert caught.value.__notes__ == ["Raised by plugin 'broken' in on_exception()."]


async def test_notify_tells_the_others_when_one_fails(plugins: PluginManager, caplog: pytest.LogCaptureFixture):
    told: list[str] = []

    class Listens:
        @hookimpl
        async def on_exception(self, exception: Exception) -> None:
            told.append(repr(exception))

    for plugin in (Listens(), Fails(), Listens()):
        plugins.register(plugin)
    await plugins.notify("on_exception", exception=KeyError())
    assert told == ["KeyError()", "KeyError()"]
    assert "Plugin 'Fails' failed in on_exception()." in caplog.text


async def test_lifespan_is_a_context_manager_for_each_plugin(plugins: PluginManager):
    steps: list[str] = []

    class Opens:
        @hookimpl
        @asynccontextmanager
        async def lifespan(self, kit: Any) -> AsyncIterator[None]:
            steps.append(f"open {kit}")
            yield
            steps.append("close")

    plugins.register(Opens())
    async with AsyncExitStack() as stack:
        await plugins.enter(stack, kit="desk")
        assert steps == ["open desk"]
    assert steps == ["open desk", "close"]


# What is refused


def hooks(**functions: Any) -> SimpleNamespace:
    return SimpleNamespace(**functions)


async def _coroutine() -> None: ...


async def _generator() -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("plugin", "sentence"),
    [
        (
            hooks(register_router=hookimpl(lambda: None)),
            r"Plugin 'audit' implements register_router\(\), which is no hook. Did you mean register_routers\(\)?",
        ),
        (hooks(zzz=hookimpl(lambda: None)), r"Plugin 'audit' implements zzz\(\), which is no hook\.$"),
        (hooks(x=hookimpl(specname="regster_tasks")(lambda: None)), "Did you mean register_tasks"),
        (hooks(check_password=hookimpl(lambda pasword: [])), r"Plugin 'audit' for hook 'check_password'.*'pasword'"),  # noqa: ARG005
        (hooks(register_tasks=hookimpl(wrapper=True)(lambda: (yield))), r"Plugin 'audit' wraps register_tasks\(\)"),
        (hooks(register_tasks=hookimpl(hookwrapper=True)(lambda: (yield))), r"Plugin 'audit' wraps register_tasks\(\)"),
        (hooks(register_tasks=hookimpl(_coroutine)), r"Plugin 'audit' has an async register_tasks\(\)"),
        (hooks(lifespan=hookimpl(_generator)), "Plugin 'audit' needs @asynccontextmanager between @hookimpl and lifes"),
        (Answers, "Plugin 'audit' is a class"),
    ],
    ids=["misspelt", "unknown", "specname", "argument", "wrapper", "hookwrapper", "async", "generator", "class"],
)
def test_plugin_that_is_wrong_is_refused_by_name_and_leaves_nothing(plugins: PluginManager, plugin: Any, sentence: str):
    if isinstance(plugin, SimpleNamespace):
        plugin.register_routers = hookimpl(lambda: ["half"])
    with pytest.raises(AppKitError, match=sentence):
        plugins.register(plugin, "audit")
    assert plugins.names() == []
    assert plugins.collect("register_routers", settings=None) == []
    plugins.register(Answers("a"), "audit")


def test_plugin_may_implement_a_hook_of_a_later_release(plugins: PluginManager):
    plugins.register(SimpleNamespace(on_moon=hookimpl(optionalhook=True)(lambda: None)))
    with pytest.raises(AppKitError, match="no hook"):
        plugins.register(SimpleNamespace(on_moon=hookimpl(lambda: None)))


def test_plugin_is_registered_once(plugins: PluginManager):
    plugin = Answers("a")
    plugins.register(plugin)
    for again, name in ((plugin, None), (plugin, "other"), (Answers("b"), "Answers")):
        with pytest.raises(AppKitError, match="is registered already"):
            plugins.register(again, name)


def test_plugins_are_named_after_their_modules_and_classes(plugins: PluginManager):
    for plugin in (ModuleType("desk.audit"), Answers("a"), Answers("b")):
        plugins.register(plugin)
    assert plugins.names() == ["desk.audit", "Answers", "Answers-2"]


def test_registering_reads_no_property(plugins: PluginManager):
    class Lazy:
        @property
        def app(self) -> None:
            raise AssertionError

        @cached_property
        def broker(self) -> None:
            raise AssertionError

        @hookimpl
        def register_tasks(self) -> list[str]:
            return ["task"]

    plugins.register(Lazy())
    assert plugins.collect("register_tasks") == ["task"]


def test_managers_share_nothing():
    one, other = PluginManager(HOOKS), PluginManager(HOOKS)
    one.register(Answers("a"))
    assert other.collect("check_password", password="p", user=None) == []


# Installed plugins


def test_installed_plugins_are_loaded_by_name(plugins: PluginManager, install: Install):
    for name in ("b", "c", "a"):
        install(name, answering(name))
    plugins.load_installed()
    assert plugins.names() == ["a", "b", "c"]
    assert plugins.collect("check_password", password="p", user=None) == ["c", "b", "a"]
    assert plugins.failed == {}


def test_installed_plugins_can_be_disabled(install: Install):
    install("a", answering("a"))
    install("b", "raise AssertionError('imported')")
    plugins = PluginManager(HOOKS, disabled=("b",), strict=True)
    plugins.load_installed()
    assert plugins.names() == ["a"]


def test_installed_plugin_that_fails_is_recorded_and_the_others_loaded(
    plugins: PluginManager, install: Install, caplog: pytest.LogCaptureFixture
):
    install("a", "import does_not_exist")
    install("b", answering("b").replace("def check_password", "def chek_password"))
    install("c", answering("c"))
    install("d", "raise SyntaxError", package="installed_d")
    with caplog.at_level(logging.ERROR):
        plugins.load_installed()
    assert plugins.names() == ["c"]
    assert {name: type(exc) for name, exc in plugins.failed.items()} == {
        "a": ModuleNotFoundError,
        "b": AppKitError,
        "d": SyntaxError,
    }
    assert [record.message for record in caplog.records] == [
        f"Plugin '{name}' could not be loaded. The app runs without it." for name in "abd"
    ]


def test_installed_plugin_that_fails_stops_a_strict_start(install: Install):
    install("a", "import does_not_exist")
    with pytest.raises(AppKitError, match="Plugin 'a' could not be loaded: ModuleNotFoundError: No module"):
        PluginManager(HOOKS, strict=True).load_installed()


def test_installed_plugins_of_one_name_do_not_replace_each_other(plugins: PluginManager, install: Install):
    install("a", answering("one"), package="package_one")
    install("a", answering("two"), package="package_two")
    plugins.load_installed()
    assert plugins.names() == ["a"]
    assert isinstance(plugins.failed["a"], AppKitError)


def test_installed_plugin_whose_contribution_fails_is_recorded_and_the_others_are_heard(
    plugins: PluginManager, install: Install, caplog: pytest.LogCaptureFixture
):
    install("a", contributing("['a']"))
    install("b", contributing("1 / 0"))
    plugins.load_installed()
    for _ in range(2):
        assert plugins.collect("register_health_checks") == ["a"]
    assert isinstance(plugins.failed["b"], ZeroDivisionError)
    (record,) = caplog.records
    assert record.message == "Plugin 'b' failed in register_health_checks(). The app runs without it."


def test_installed_plugin_whose_contribution_fails_stops_a_strict_start(install: Install):
    install("b", contributing("1 / 0"))
    plugins = PluginManager(HOOKS, strict=True)
    plugins.load_installed()
    with pytest.raises(AppKitError, match=r"Plugin 'b' failed in register_health_checks\(\): ZeroDivisionError: div"):
        plugins.collect("register_health_checks")


def test_installed_plugin_that_checks_passwords_fails_closed(plugins: PluginManager, install: Install):
    """What is asked about a request, rather than while the app is put together, is never skipped."""
    install("a", answering("a").replace("return ['a']", "1 / 0"))
    plugins.load_installed()
    with pytest.raises(ZeroDivisionError):
        plugins.collect("check_password", password="p", user=None)


@pytest.mark.parametrize("strict", [False, True])
async def test_installed_plugin_whose_lifespan_fails(install: Install, strict: bool):
    install("a", "from appkit import hookimpl\n\n@hookimpl\ndef lifespan(): 1 / 0\n")
    plugins = PluginManager(HOOKS, strict=strict)
    plugins.load_installed()
    opened: list[str] = []
    plugins.register(SimpleNamespace(lifespan=hookimpl(lambda: closing_over(opened))))
    async with AsyncExitStack() as stack:
        if strict:
            with pytest.raises(AppKitError, match=r"Plugin 'a' failed in lifespan\(\): ZeroDivisionError"):
                await plugins.enter(stack)
        else:
            await plugins.enter(stack)
            assert list(plugins.failed) == ["a"]
        assert opened == ["open"]


async def test_apps_own_plugin_that_fails_is_raised(plugins: PluginManager):
    plugins.register(SimpleNamespace(register_tasks=hookimpl(lambda: 1 / 0), lifespan=hookimpl(lambda: 1 / 0)), "own")
    with pytest.raises(ZeroDivisionError) as caught:
        plugins.collect("register_tasks")
    assert caught.value.__notes__ == ["Raised by plugin 'own' in register_tasks()."]
    with pytest.raises(ZeroDivisionError):
        await plugins.enter(AsyncExitStack())
    assert plugins.failed == {}


async def test_notify_raises_in_strict_mode_once_all_are_told():
    plugins = PluginManager(HOOKS, strict=True)
    told: list[str] = []
    plugins.register(SimpleNamespace(on_exception=hookimpl(lambda: told.append("told"))))
    plugins.register(Fails(), "broken")
    with pytest.raises(ValueError, match="bug") as caught:
        await plugins.notify("on_exception", exception=KeyError())
    assert caught.value.__notes__ == ["Raised by plugin 'broken' in on_exception()."]
    assert told == ["told"]


async def test_trace_logs_each_call_and_no_values(caplog: pytest.LogCaptureFixture):
    plugins = PluginManager(HOOKS, trace=True)

    class Speaks:
        @hookimpl
        async def on_exception(self, exception: Exception) -> str:
            return repr(exception)

    plugins.register(Answers("secret"), "audit")
    plugins.register(Speaks(), "pager")
    with caplog.at_level(logging.INFO):
        plugins.collect("check_password", password="hunter2", user=None)
        await plugins.notify("on_exception", exception=KeyError("hunter2"))
    assert [re.sub(r"\d+\.\d+", "N", record.message) for record in caplog.records] == [
        "check_password() of plugin 'audit' took N ms.",
        "on_exception() of plugin 'pager' took N ms.",
    ]


def test_names_are_those_that_implement_a_hook(plugins: PluginManager):
    plugins.register(Answers("a"), "a")
    plugins.register(SimpleNamespace(register_tasks=hookimpl(lambda: None)), "b")
    assert plugins.names("check_password") == ["a"]


def contributing(expression: str) -> str:
    return f"from appkit import hookimpl\n\n@hookimpl\ndef register_health_checks():\n    return {expression}\n"


@asynccontextmanager
async def closing_over(opened: list[str]) -> AsyncIterator[None]:
    opened.append("open")
    yield


def test_app_may_offer_hooks_of_its_own():
    module = ModuleType("desk.hooks")
    module.check_text = hookspec(lambda text: None)  # type: ignore[attr-defined]  # noqa: ARG005
    desk, other = PluginManager([*HOOKS, module]), PluginManager(HOOKS)
    plugin = SimpleNamespace(check_text=hookimpl(lambda text: [text.upper()]))
    desk.register(plugin)
    assert desk.collect("check_text", text="a") == ["A"]
    with pytest.raises(AppKitError, match=r"implements check_text\(\), which is no hook"):
        other.register(plugin)
