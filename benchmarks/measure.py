"""Timings that can be compared on a machine with other work to do: interleaved rounds, and the ratios of their minima."""

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
    """What one operation of the measured took, at best."""
    ratio: float
    """Best round against best round."""
    median: float
    """The median of the rounds' own ratios: far from `ratio`, the machine was too busy to believe either."""
    target: float | None

    @property
    def verdict(self) -> str:
        """Whether it is within its target, for one that has it."""
        if self.target is None:
            return ""
        return "ok" if self.ratio <= self.target else "over"


async def interleave(
    contenders: Mapping[str, Operation], *, rounds: int, count: int = 1, between: Operation | None = None
) -> Seconds:
    """Seconds for each operation, round by round; in each round all have their turn, and begin in another order.

    Args:
        contenders: What to measure.
        rounds: How often each has its turn, after one that doesn't count.
        count: How many operations are a turn.
        between: What to do after each turn, beside the clock.
    """
    names = list(contenders)
    seconds: Seconds = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            spent = await _turn(contenders[name], count)
            if number:
                seconds[name].append(spent)
            if between:
                await between()
    return seconds


async def _turn(operation: Operation, count: int) -> float:
    gc.collect()
    gc.disable()
    try:
        start = perf_counter()
        for _ in range(count):
            await operation()
        return (perf_counter() - start) / count
    finally:
        gc.enable()


def ratios(
    what: str, database: str, seconds: Seconds, *targets: tuple[str, str, float | None]
) -> list[Ratio]:
    """The ratios that matter: for each, who is measured, against whom, and its target if it has one."""
    return [
        Ratio(
            what,
            database,
            measured,
            against,
            min(seconds[measured]) * 1e6,
            min(seconds[measured]) / min(seconds[against]),
            median(a / b for a, b in zip(seconds[measured], seconds[against], strict=True)),
            target,
        )
        for measured, against, target in targets
    ]


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
