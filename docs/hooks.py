"""Writes the reference pages while MkDocs builds them, from the objects themselves: nothing of them is typed.

A page says `<!-- reference: settings -->` where its tables belong.
"""

import ast
import inspect
import pkgutil
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from typer.main import get_command

from appkit import contrib
from appkit.cli import create_cli
from appkit.cli.check import BuiltInChecks
from appkit.core.environment import Variable, variables
from appkit.core.groups import add_groups
from appkit.core.settings import Settings
from appkit.exceptions import RANGES, APIException
from appkit.kit import HOOKS
from appkit.repository.migrations.lint import RULES
from appkit.testing import plugin

SNIPPETS: Final = Path(__file__).parent / "snippets"
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)

# Imported, so that their errors are known; their settings are read from nowhere, for the defaults will do.
_FEATURES: Final = [
    import_module(f"{contrib.__name__}.{module.name}") for module in pkgutil.iter_modules(contrib.__path__)
]
_GROUPS: Final = {
    name: group for feature in _FEATURES for name, group in getattr(feature, "register_settings", dict)().items()
}
SETTINGS: Final = type(add_groups(Settings.model_construct(), _GROUPS))
"""The class of an app's settings that has turned every plugin of appkit's on."""

_PROVISIONAL: Final = "*Provisional: appkit itself has no implementation. The arguments may change in a minor release.*"

_MARKER: Final = re.compile(r"<!-- reference: (\w+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what a page asks for; called by MkDocs."""
    return _MARKER.sub(lambda marker: REFERENCES[marker[1]](), markdown)


# Settings


def settings_reference() -> str:
    """A table for each group of variables."""
    parts: list[str] = []
    group: type[BaseModel] | None = None
    for variable in variables(SETTINGS):
        owner = _owner(variable)
        if owner is not group:
            group = owner
            title = "General" if owner is Settings else f"`{variable.path[0].upper()}_…`"
            about = "" if owner is Settings else f"\n{_about(variable.path[0], owner)}\n"
            parts.append(f"\n## {title}\n{about}\n| Variable | Type | Default | Meaning |\n| --- | --- | --- | --- |")
        meaning = _attribute_docs(owner)[variable.path[-1]]
        cells = (f"`{variable.name}`", _type_name(variable.field.annotation), _default(variable), meaning)
        parts.append(f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |")
    return "\n".join(parts)


def _about(name: str, group: type[BaseModel]) -> str:
    reader = f" Read by the plugin `{group.__module__.split('.')[2]}`." if name in _GROUPS else ""
    return f"{inspect.getdoc(group)}{reader}"


def _owner(variable: Variable) -> type[BaseModel]:
    owner: Any = Settings
    for name in variable.path[:-1]:
        owner = SETTINGS.model_fields[name].annotation
    return typing.cast("type[BaseModel]", owner)


def _attribute_docs(cls: type) -> dict[str, str]:
    """The sentences under a class's attributes, which Python itself drops."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - It is what was asked for.
    found = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = text
    return found


def _type_name(annotation: Any) -> str:
    """What to write into the variable, in a word or two."""
    arguments = get_args(annotation)
    match get_origin(annotation):
        case typing.Annotated:
            return _type_name(arguments[0])
        case origin if origin is Literal:
            return ", ".join(f"`{choice}`" for choice in arguments)
        case origin if origin in (Union, UnionType):
            return ", ".join(_type_name(argument) for argument in arguments if argument is not NoneType)
        case origin if origin is tuple:
            return "JSON list"
        case origin if origin is dict:
            return "JSON object"
    names = {bool: "`true`, `false`", float: "number", int: "whole number", SecretStr: "secret", Path: "path"}
    return names.get(annotation, "text")


def _default(variable: Variable) -> str:
    default = variable.field.get_default(call_default_factory=True)
    if default is None or default in ((), {}):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


# Errors


def errors_reference() -> str:
    """A table of the codes for each status, and below it a paragraph for each of appkit's own."""
    parts = ["| Status | Codes |", "| --- | --- |"]
    parts += [f"| {status} | {codes[0]} to {codes[-1]} |" for status, codes in RANGES.items()]
    parts += ["| 5xx | 50000 to 59999 |", ""]
    status = None
    for code, cls in _own_errors():
        if cls.status_code != status:
            status = cls.status_code
            parts += [f"## {status}", ""]
        parts += [
            f"### {code} `{cls.__name__}` {{ #{code} }}",
            "",
            _without_sections(inspect.getdoc(cls) or ""),
            "",
            f"> {cls.detail}",
            "",
        ]
    return "\n".join(parts)


def _own_errors() -> Iterator[tuple[int, type[APIException]]]:
    for code, cls in APIException.registry().items():
        if cls.__module__.partition(".")[0] == "appkit":
            yield code, cls


def _without_sections(doc: str) -> str:
    return re.split(r"\n\n(?:Args|Raises|Returns):", doc)[0]


# Hooks


def hooks_reference() -> str:
    """Each hook with its signature, read from the source, because its types are imported for type checkers only."""
    parts = []
    for function in hook_functions():
        doc = inspect.cleandoc(ast.get_docstring(function) or "")
        text, _, example = doc.partition("Example:\n")
        parts += [
            f"## `{function.name}`",
            "",
            f"```python\n{_signature(function)}\n```",
            "",
            *([_PROVISIONAL, ""] if "provisional" in _marks(function) else []),
            _arguments_as_list(text).strip(),
            "",
            textwrap.dedent(example).strip(),
            "",
        ]
    return "\n".join(parts)


def hook_functions() -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions marked as hooks, sorted by name: those of modules, and those of classes."""
    trees = [ast.parse(inspect.getsource(namespace)) for namespace in HOOKS]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    return sorted((node for node in functions if "hookspec" in _marks(node)), key=lambda node: node.name)


def _marks(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return [ast.unparse(mark).partition("(")[0] for mark in function.decorator_list]


def _signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    keyword = "async def" if isinstance(function, ast.AsyncFunctionDef) else "def"
    arguments = re.sub(r"^self(, )?", "", ast.unparse(function.args)).replace("'", "")
    return f"{keyword} {function.name}({arguments}) -> {ast.unparse(function.returns or ast.Constant(None))}: ..."


def _arguments_as_list(text: str) -> str:
    head, _, arguments = text.partition("Args:\n")
    items = re.sub(r"^(\w+):", r"- `\1`:", textwrap.dedent(arguments), flags=re.MULTILINE)
    return f"{head}\n{items}"


# Migrations


def lint_reference() -> str:
    """What `appkit db lint` finds, and what to do instead."""
    parts = (f"## {code} {{ #{code.lower()} }}\n\n{problem}\n\n{instead}" for code, (problem, instead) in RULES.items())
    return "\n\n".join(parts)


# Fixtures


def testing_reference() -> str:
    """Each fixture with what it says about itself, and the test that shows it."""
    examples = (SNIPPETS / "test_bookmarks.py").read_text(encoding="utf-8")
    parts = []
    for name, doc in fixtures():
        parts += [f"## `{name}` {{ #{name} }}", "", doc, "", f"```python\n{_test_of(name, examples)}\n```", ""]
    return "\n".join(parts)


def fixtures() -> Iterator[tuple[str, str]]:
    """The public fixtures of the pytest plugin and their docstrings, in the order of the source."""
    functions = (node for node in ast.parse(inspect.getsource(plugin)).body if isinstance(node, _FUNCTIONS))
    for node in functions:
        marks = map(ast.unparse, node.decorator_list)
        if any(mark.startswith("pytest.fixture") for mark in marks) and not node.name.startswith("_"):
            yield node.name, ast.get_docstring(node) or ""


def _test_of(fixture: str, source: str) -> str:
    for node in ast.parse(source).body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name == f"test_{fixture}":
            first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
            return "\n".join(source.splitlines()[first - 1 : node.end_lineno])
    raise LookupError(f"docs/snippets/test_bookmarks.py has no test_{fixture}().")


# Checks


def checks_reference() -> str:
    """What `appkit check` finds, and what to do about it."""
    parts = ""
    for deploy, title in ((False, "Always"), (True, "With `--deploy`")):
        found = sorted(check for check in BuiltInChecks().register_checks() if check.deploy is deploy)
        parts += f"\n## {title}\n\n"
        parts += "\n".join(
            f"### {each.code} {{ #{each.code.lower()} }}\n\n{each.problem}\n\n{each.fix}\n" for each in found
        )
    return parts


# Command line


def cli_reference() -> str:
    """Each command with its arguments, as the command itself knows them."""
    return "\n".join(_describe_command("appkit", get_command(create_cli())))


def _describe_command(path: str, command: Any) -> Iterator[str]:
    if path != "appkit":
        usage = " ".join([path, *command.collect_usage_pieces(_context(command, path))])
        yield from (f"## `{path}`", "", f"```console\n$ {usage}\n```", "", inspect.cleandoc(command.help or ""), "")
        if rows := list(_parameters(command)):
            yield from ("| Argument or option | Meaning |", "| --- | --- |", *rows, "")
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from _describe_command(f"{path} {name}", child)


def _context(command: Any, path: str) -> Any:
    return command.make_context(path, [], resilient_parsing=True)


def _parameters(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.name == "help":
            continue
        names = ", ".join(f"`{name}`" for name in parameter.opts)
        if parameter.param_type_name == "argument":
            names = f"`{(parameter.metavar or parameter.name.upper()).strip('[]')}`"
        text = (getattr(parameter, "help", None) or "").replace("|", "\\|")
        default = parameter.default
        if isinstance(default, str | int) and not isinstance(default, bool) and parameter.show_default:
            text += f" Default: `{default}`."
        yield f"| {names} | {text.strip()} |"


REFERENCES: Final[dict[str, Callable[[], str]]] = {
    "settings": settings_reference,
    "errors": errors_reference,
    "hooks": hooks_reference,
    "checks": checks_reference,
    "testing": testing_reference,
    "cli": cli_reference,
    "lint": lint_reference,
}

if __name__ == "__main__":
    sys.stdout.write(REFERENCES[sys.argv[1]]())
