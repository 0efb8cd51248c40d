"""`appkit check`: find problems of an app without running it. The checks are in this package's modules."""

import os
from collections.abc import Iterable, Iterator
from functools import partial
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
    """appkit's own checks, registered like a plugin's."""

    @hookimpl
    def register_checks(self) -> "list[Check]":
        """Return all built-in checks."""
        from appkit.cli.check import models, routes, settings

        return [*routes.CHECKS, *models.CHECKS, *settings.CHECKS]


def check(
    target: Target = None,
    *,
    deploy: Annotated[bool, typer.Option("--deploy", help="Also check what production needs.")] = False,
    ignore: Annotated[list[str] | None, typer.Option(metavar="CODE", help="Skip this check; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find problems of the app; fail when there are any."""
    import anyio

    # In production, the first invalid setting would stop the app; in development, each becomes a finding.
    os.environ["ENVIRONMENT"] = "development"
    findings = anyio.run(
        partial(_find, find_kit(target).kit, deploy=deploy, ignored={code.upper() for code in ignore or ()})
    )
    if as_json:
        import json

        typer.echo(json.dumps(findings, indent=2))
    else:
        _show(findings)
    if findings:
        raise typer.Exit(1)


def checks_of(kit: "AppKit") -> "list[Check]":
    """All checks, those of plugins included, ordered by code."""
    if "checks" not in kit.plugins.names():
        kit.plugins.register(BuiltInChecks(), "checks")
    return sorted(kit.plugins.collect("register_checks"), key=lambda check: check.code)


async def _find(kit: "AppKit", *, deploy: bool, ignored: set[str]) -> list[Finding]:
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
        return [f"could not be checked: {exc.__cause__ or exc}"]


def _finding(check: "Check", where: str) -> Finding:
    return {"code": check.code, "problem": check.problem, "where": where, "fix": check.fix, "url": page_of(check)}


def page_of(check: "Check") -> str | None:
    """The URL of the page about a check."""
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
    yield f"{count} {'finding' if count == 1 else 'findings'}." if count else "No problems found."
