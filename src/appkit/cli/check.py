"""`appkit check`: what is wrong with an app, found by looking rather than by running it."""

import os
from collections.abc import Iterable, Iterator
from inspect import isawaitable
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appkit.cli.discovery import find_kit
from appkit.cli.output import AsJson, Target
from appkit.exceptions import APIException, AppKitError
from appkit.plugins.markers import hookimpl

if TYPE_CHECKING:
    from appkit.kit import AppKit, Check

Finding = dict[str, Any]


class BuiltInChecks:
    """appkit's own, given as any plugin gives its own."""

    @hookimpl
    def register_checks(self) -> "list[Check]":
        """All of them."""
        from appkit.cli.checks import models, routes, settings

        return [*routes.CHECKS, *models.CHECKS, *settings.CHECKS]


def check(
    target: Target = None,
    *,
    deploy: Annotated[bool, typer.Option("--deploy", help="Look for what production needs too.")] = False,
    ignore: Annotated[list[str] | None, typer.Option(metavar="CODE", help="Leave this check out; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look for what is wrong with the app; fails when there is something."""
    import anyio

    # Production's settings are judged here, one by one, rather than refused at the first that is wrong.
    os.environ["ENVIRONMENT"] = "development"
    findings = anyio.run(_find, find_kit(target).kit, deploy, {code.upper() for code in ignore or ()})
    if as_json:
        import json

        typer.echo(json.dumps(findings, indent=2))
    else:
        _show(findings)
    if findings:
        raise typer.Exit(1)


def checks_of(kit: "AppKit") -> "list[Check]":
    """All checks, the kit's plugins' among them, in the order of their codes."""
    if "checks" not in kit.plugins.names():
        kit.plugins.register(BuiltInChecks(), "checks")
    return sorted(kit.plugins.collect("register_checks"), key=lambda check: check.code)


async def _find(kit: "AppKit", deploy: bool, ignored: set[str]) -> list[Finding]:  # noqa: FBT001 - anyio passes it on
    findings = []
    try:
        for check in checks_of(kit):
            if check.code.upper() not in ignored and (deploy or not check.deploy):
                findings += [_finding(check, where) for where in await _places(check, kit)]
    finally:
        await kit.database.dispose()
    return findings


async def _places(check: "Check", kit: "AppKit") -> list[str]:
    try:
        found = check.find(kit)
        return list(await found if isawaitable(found) else found)
    except (AppKitError, APIException) as exc:
        return [f"could not be looked for: {exc.__cause__ or exc}"]


def _finding(check: "Check", where: str) -> Finding:
    return {"code": check.code, "problem": check.problem, "where": where, "fix": check.fix, "url": page_of(check)}


def page_of(check: "Check") -> str | None:
    """Where there is more about it."""
    from appkit.api.problems import PAGES

    if check.url is None and check.code.startswith("AKC"):
        return f"{PAGES.replace('/errors/', '/checks/')}#{check.code.lower()}"
    return check.url


def _show(findings: Iterable[Finding]) -> None:
    for line in _lines(findings):
        typer.echo(line)


def _lines(findings: Iterable[Finding]) -> Iterator[str]:
    count = 0
    for code, group in groupby(findings, key=lambda finding: finding["code"]):
        found = list(group)
        count += len(found)
        yield f"{typer.style(code, fg='red')}  {found[0]['problem']}"
        yield from (f"    {finding['where']}" for finding in found)
        yield f"    {' '.join(filter(None, [found[0]['fix'], found[0]['url']]))}"
        yield ""
    yield f"{count} {'finding' if count == 1 else 'findings'}." if count else "Nothing is wrong, as far as we can see."
