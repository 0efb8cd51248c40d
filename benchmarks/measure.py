"""Timing: interleaved rounds and ratios of first deciles, which are comparable on a busy machine too."""

import gc
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

Operation = Callable[[], Awaitable[object]]
Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Ratio:
    """The duration of one operation, relative to another."""

    what: str
    database: str
    measured: str
    against: str
    microseconds: float
    """Duration of the measured operation, first decile."""
    ratio: float
    """First decile to first decile."""
    median: float
    """Median to median. If it is far from `ratio`, the machine was too busy for either to be reliable."""
    target: float | None

    @property
    def verdict(self) -> str:
        """`ok` or `over` its target; empty without one."""
        if self.target is None:
            return ""
        return "ok" if self.ratio <= self.target else "over"


async def interleave(
    contenders: Mapping[str, Operation],
    *,
    rounds: int,
    warmup: int = 10,
    before: Callable[[str], None] | None = None,
    after: Operation | None = None,
) -> Seconds:
    """Time the operations in rounds: one turn of each contender, in another order every round.

    A turn is short, so it rarely overlaps with other programs' work.

    Args:
        contenders: What to measure.
        rounds: Turns of each contender.
        warmup: Turns before that, which don't count.
        before: Called with the contender's name before each turn, not timed.
        after: Called after each turn, not timed.
    """
    names = list(contenders)
    seconds: Seconds = {name: [] for name in names}
    warmup = min(rounds, warmup)
    gc.collect()
    gc.freeze()  # So that collections don't visit what exists already.
    try:
        for number in range(-warmup, rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if before:
                    before(name)
                start = perf_counter()
                await contenders[name]()
                if number >= 0:
                    seconds[name].append(perf_counter() - start)
                if after:
                    await after()
    finally:
        gc.unfreeze()
    return seconds


def ratios(what: str, database: str, seconds: Seconds, *targets: tuple[str, str, float | None]) -> list[Ratio]:
    """The ratios of these pairs: the measured, what it is compared with, and the target or None."""
    return [
        Ratio(
            what,
            database,
            measured,
            against,
            _quick(seconds[measured]) * 1e6,
            _quick(seconds[measured]) / _quick(seconds[against]),
            median(seconds[measured]) / median(seconds[against]),
            target,
        )
        for measured, against, target in targets
    ]


def _quick(seconds: Sequence[float]) -> float:
    """The first decile: an undisturbed turn, and less of an outlier than the minimum."""
    return sorted(seconds)[len(seconds) // 10]


def table(found: Sequence[Ratio]) -> str:
    """The ratios as a Markdown table."""
    header = ("what", "database", "measured", "against", "µs", "ratio", "median", "target", "")
    rows = [
        (
            each.what,
            each.database,
            each.measured,
            each.against,
            f"{each.microseconds:,.0f}",
            f"{each.ratio:.2f}",
            f"{each.median:.2f}",
            "" if each.target is None else f"≤ {each.target:.2f}",
            each.verdict,
        )
        for each in found
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def write_json(path: Path, found: Sequence[Ratio]) -> None:
    """Write the ratios as JSON."""
    path.write_text(json.dumps([{**asdict(each), "verdict": each.verdict} for each in found], indent=2) + "\n")
