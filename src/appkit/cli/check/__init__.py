"""`appkit check`: find problems of an app without serving the app. The modules of this package have the checks."""

import os
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appkit.cli.discovery import find_kit
from appkit.cli.output import AsJson, Target, show, show_findings
from appkit.exceptions import APIException, AppKitError
from appkit.plugins.markers import hookimpl

if TYPE_CHECKING:
    from appkit.kit import AppKit, Check

Finding = dict[str, Any]


class BuiltInChecks:
    """A plugin with appkit's own checks."""

    @hookimpl
    def register_checks(self) -> "list[Check]":
        """Return all built-in checks."""
        from appkit.cli.check import models, routes, settings

        return [*routes.CHECKS, *models.CHECKS, *settings.CHECKS]


def check(
    target: Target = None,
    *,
    deploy: Annotated[bool, typer.Option("--deploy", help="Also check the settings for production.")] = False,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Skip this check. Repeat to skip more.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find problems of the app. Fail when there are any."""
    import anyio

    # In production, the first unsafe setting would stop the app. In development, each one becomes a finding.
    os.environ["ENVIRONMENT"] = "development"
    findings = anyio.run(
        partial(_find, find_kit(target).kit, deploy=deploy, ignored={code.upper() for code in ignore or ()})
    )
    if as_json:
        show(findings, as_json=True)
    else:
        show_findings(findings)
    if findings:
        raise typer.Exit(1)


def checks_of(kit: "AppKit") -> "list[Check]":
    """The checks of appkit and of plugins, sorted by code."""
    if "checks" not in kit.plugins.names():
        kit.plugins.register(BuiltInChecks(), "checks")
    return sorted(kit.plugins.collect("register_checks"), key=lambda check: check.code)


async def _find(kit: "AppKit", *, deploy: bool, ignored: set[str]) -> list[Finding]:
    findings: list[Finding] = []
    try:
        for check in checks_of(kit):
            if check.code.upper() not in ignored and (deploy or not check.deploy):
                url = page_of(check)
                findings += [
                    {"code": check.code, "problem": check.problem, "where": where, "fix": check.fix, "url": url}
                    for where in await _places(check, kit)
                ]
    finally:
        await kit.database.dispose()
    return findings


async def _places(check: "Check", kit: "AppKit") -> list[str]:
    try:
        found = check.find(kit)
        return list(await found if isawaitable(found) else found)
    except (AppKitError, APIException) as exc:
        return [f"could not be checked: {exc.__cause__ or exc}"]


def page_of(check: "Check") -> str | None:
    """The URL of the page about a check."""
    from appkit.api.problems import PAGES

    if check.url is None and check.code.startswith("AKC"):
        return f"{PAGES.replace('/errors/', '/checks/')}#{check.code.lower()}"
    return check.url
