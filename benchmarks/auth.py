"""Benchmark of signing in, beside fastapi-users and a handwritten app: `python benchmarks/auth.py`.

It measures sign-ins and how much they slow down other requests. Each app is served by uvicorn with its own SQLite
file, and they take turns, round by round.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from threading import Event, Thread

from measure import Ratio, table, write_json
from served import OURS, PLAIN, REVOCABLE, THEIRS, Contender, ask, by_hand, ours, post, serve, their_python, theirs

SIGNING_IN = 4
MEMORY, LAG = 200 * 2**20, 0.1
"""Limits while many clients sign in at once: bytes above idle, and seconds for which the event loop is blocked."""


def sign_in_without_pause(contender: Contender, done: Event, succeeded: "count[int]") -> None:
    """Sign in again and again until `done` is set."""
    connection = HTTPConnection("127.0.0.1", contender.port)
    path, body, kind = contender.signin
    while not done.is_set():
        ask(connection, "POST", path, body, **{"content-type": kind})
        next(succeeded)


def ping_while_others_sign_in(contender: Contender, duration: float) -> None:
    """Measure pings, and the rate of sign-ins, while some clients sign in."""
    done, succeeded, connection = Event(), count(), HTTPConnection("127.0.0.1", contender.port)
    clients = [
        Thread(target=sign_in_without_pause, args=(contender, done, succeeded), daemon=True) for _ in range(SIGNING_IN)
    ]
    start = time.perf_counter()
    for client in clients:
        client.start()
    while time.perf_counter() - start < duration:
        asked = time.perf_counter()
        ask(connection, "GET", "/ping")
        contender.note("ping", time.perf_counter() - asked)
        time.sleep(0.005)
    done.set()
    for client in clients:
        client.join()
    contender.note("signin", (time.perf_counter() - start) / next(succeeded))


def read_current_user(contender: Contender, times: int) -> None:
    """Measure how long one client waits for the current user."""
    connection = HTTPConnection("127.0.0.1", contender.port)
    for name, (path, token) in contender.readers.items():
        for _ in range(times):
            asked = time.perf_counter()
            ask(connection, "GET", path, authorization=f"Bearer {token}")
            contender.note(f"me, {name}", time.perf_counter() - asked)


def forget_password(contender: Contender, times: int) -> None:
    """Request password resets, in turn for an address with an account and for one without."""
    if contender.forgot is None:
        return
    connection = HTTPConnection("127.0.0.1", contender.port)
    for number in range(times):
        for who, email in (("known", "ada@example.com"), ("unknown", f"nobody{number}@example.com")):
            asked = time.perf_counter()
            post(connection, contender.forgot, {"email": email})
            contender.note(f"forgot, {who}", time.perf_counter() - asked)


def admit_crowd(contender: Contender, size: int) -> list[Ratio]:
    """Sign in with many clients at once, and measure memory and the event loop's delay. A 503 is retried."""
    path = contender.signin[0]
    ask(HTTPConnection("127.0.0.1", contender.port), "GET", "/late")
    idle = memory(contender.pid, "VmRSS")
    Path(f"/proc/{contender.pid}/clear_refs").write_text("5")  # Resets the peak.
    start = time.perf_counter()
    clients = [Thread(target=sign_in_at_last, args=(contender, path), daemon=True) for _ in range(size)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seconds = time.perf_counter() - start
    taken = memory(contender.pid, "VmHWM") - idle
    late = json.loads(ask(HTTPConnection("127.0.0.1", contender.port), "GET", "/late"))
    what = f"{size} sign in at once"
    return [
        Ratio(what, "sqlite", f"{taken >> 20} MiB", f"{MEMORY >> 20} MiB", seconds * 1e6, taken / MEMORY, 0, 1.0),
        Ratio(what, "sqlite", "the loop's delay", f"{LAG} s", late["loop"] * 1e6, late["loop"] / LAG, 0, 1.0),
        Ratio(what, "sqlite", "a thread's", f"{LAG} s", late["thread"] * 1e6, late["thread"] / LAG, 0, None),
    ]


def sign_in_at_last(contender: Contender, path: str) -> None:
    """Sign in, and retry after each 503."""
    body, headers = contender.signin[1], {"content-type": contender.signin[2]}
    connection = HTTPConnection("127.0.0.1", contender.port)
    while True:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:  # noqa: PLR2004 - a status code
            return
        time.sleep(float(answer.headers["Retry-After"]))


def memory(pid: int, what: str) -> int:
    """A process's memory in bytes, as Linux reports it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def p99(seconds: list[float]) -> float:
    """The 99th percentile."""
    return quantiles(seconds, n=100)[-1]


def judge(contenders: Mapping[str, Contender]) -> list[Ratio]:
    """The ratios, with their targets."""
    seconds = {(name, what): found for name, each in contenders.items() for what, found in each.seconds.items()}

    def row(what: str, one: tuple[str, str], other: tuple[str, str], target: float | None) -> Ratio:
        pick: Callable[[list[float]], float] = p99 if "p99" in what else median
        mine, theirs = seconds[one], seconds[other]
        names = (one[0], other[0]) if one[0] != other[0] else (one[1], other[1])
        return Ratio(
            what, "sqlite", *names, pick(mine) * 1e6, pick(mine) / pick(theirs), median(mine) / median(theirs), target
        )

    ping = f"ping p99, {SIGNING_IN} signing in"
    known, unknown = "forgot, known", "forgot, unknown"
    return [
        row(ping, (OURS, "ping"), (PLAIN, "ping"), 1.2),
        row(ping, (OURS, "ping"), (THEIRS, "ping"), 0.2),
        row("sign-in", (OURS, "signin"), (THEIRS, "signin"), 1 / 0.95),
        row("sign-in", (OURS, "signin"), (PLAIN, "signin"), None),
        row("current user", (OURS, f"me, {OURS}"), (THEIRS, f"me, {REVOCABLE}"), 1 / 1.2),
        row("current user, theirs irrevocable", (OURS, f"me, {OURS}"), (THEIRS, f"me, {THEIRS}"), 1 / 1.2),
        row("current user", (OURS, f"me, {OURS}"), (PLAIN, f"me, {PLAIN}"), None),
        row("appkit's answer", (OURS, known), (OURS, unknown), 1.1),
        row("appkit's answer", (OURS, unknown), (OURS, known), 1.1),
        row("fastapi-users' answer", (THEIRS, known), (THEIRS, unknown), None),
    ]


def run(rounds: int, duration: float, times: int, crowd: int) -> list[Ratio]:
    """Serve the apps, take all measurements, and return the ratios."""
    with TemporaryDirectory() as directory, ExitStack() as stack:
        apps = (
            (OURS, sys.executable, "ours", ours),
            (PLAIN, sys.executable, "handwritten", by_hand),
            (THEIRS, their_python(), "theirs", theirs),
        )
        contenders = {
            name: prepare(*stack.enter_context(serve(python, module, Path(directory, f"{module}.db"))))
            for name, python, module, prepare in apps
        }
        names = list(contenders)
        tasks = (
            partial(ping_while_others_sign_in, duration=duration),
            partial(read_current_user, times=times),
            partial(forget_password, times=times // 10),
        )
        for number in range(rounds):
            for task in tasks:
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    task(contenders[name])
        return judge(contenders) + admit_crowd(contenders[OURS], crowd)


def main() -> int:
    """Measure and print. With `--check`, exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds; each app has one turn in a round (7)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of signing in per turn (3)")
    parser.add_argument("--times", type=int, default=200, help="requests for the current user per turn (200)")
    parser.add_argument("--crowd", type=int, default=60, help="clients that sign in at once at the end (60)")
    parser.add_argument("--check", action="store_true", help="fail when a target is missed")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    found = run(options.rounds, options.seconds, options.times, options.crowd)
    sys.stdout.write(f"{table(found)}\n")
    if options.json:
        write_json(options.json, found)
    return int(options.check and any(each.verdict == "over" for each in found))


if __name__ == "__main__":
    sys.exit(main())
