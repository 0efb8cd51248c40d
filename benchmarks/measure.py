"""Timings that can be compared on a machine with other work to do: interleaved, and the ratios of first deciles."""

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
    """How long one takes for what another takes 1.0 for."""

    what: str
    database: str
    measured: str
    against: str
    microseconds: float
    """What the measured took in the first decile of the rounds."""
    ratio: float
    """First decile against first decile."""
    median: float
    """Median against median: far from `ratio`, the machine was too busy to believe either."""
    target: float | None

    @property
    def verdict(self) -> str:
        """Whether it is within its target, for one that has it."""
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
    """How long each operation took, round by round: one of each contender, in another order each time.

    Turns this short mostly fit between two moments at which somebody else has the processor.

    Args:
        contenders: What to measure.
        rounds: How often each has its turn.
        warmup: How often before, which doesn't count.
        before: What to do before each turn, beside the clock; it is told whose turn it is.
        after: What to do after each turn, beside the clock.
    """
    names = list(contenders)
    seconds: Seconds = {name: [] for name in names}
    warmup = min(rounds, warmup)
    gc.collect()
    gc.freeze()  # What is there already is nobody's to look through.
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
    """The ratios that matter: for each, who is measured, against whom, and its target if it has one."""
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
    """The first decile: what it takes when nothing comes in between, without the luck of a minimum."""
    return sorted(seconds)[len(seconds) // 10]


def table(found: Sequence[Ratio]) -> str:
    """The ratios as a table in Markdown."""
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
    """The same for machines."""
    path.write_text(json.dumps([{**asdict(each), "verdict": each.verdict} for each in found], indent=2) + "\n")
