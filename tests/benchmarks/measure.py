"""Ours, peer and floor side by side, in pairs, in one run; what counts is the ratio of a pair.

The machines that this runs on are shared: a time alone says little, the median of paired ratios much.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

# Does the work once and gives how much it did (sentences, tokens, bytes); its wall time is taken around it.
Work = Callable[[], float]


@dataclass(frozen=True)
class Ratios:
    """Ratios of paired repeats."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, values: list[float]) -> "Ratios":
        """Of at least one value."""
        return cls(min(values), statistics.median(values), max(values))

    def to_text(self) -> str:
        """Median, and the span in brackets."""
        return f"{self.median:.2f} ({self.minimum:.2f} to {self.maximum:.2f})"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    :param part: what is measured.
    :param peer: what it is compared with, doing the same work.
    :param rate: ours, median, in ``unit`` a second.
    :param ratio: our rate over the peer's; above 1 we are faster.
    :param must, aim: what the ratio has to reach, and what it ought to.
    :param floor: our rate over that of the floor (the least that the work can take), if it has one.
    :param floor_name: what the floor is.
    :param note: which checkpoint, which text, what was found equal.
    """

    part: str
    peer: str
    unit: str
    rate: float
    ratio: Ratios
    must: float | None = None
    aim: float | None = None
    floor: Ratios | None = None
    floor_name: str = ""
    note: str = ""

    @property
    def reached(self) -> str:
        """Whether the median reaches its figure, in words."""
        if self.must is None:
            return ""
        if self.aim is not None and self.ratio.median >= self.aim:
            return "aim"
        return "yes" if self.ratio.median >= self.must else "NO"

    def to_json(self) -> dict[str, Any]:
        """For a machine."""
        return {**asdict(self), "reached": self.reached}


def compare(
    *,
    part: str,
    peer_name: str,
    unit: str,
    ours: Work,
    peer: Work,
    repeats: int,
    floor: Work | None = None,
    **facts: Any,
) -> Row:
    """Run ours, peer and floor in turn, ``repeats`` times after one turn that warms up."""
    works = [work for work in (ours, peer, floor) if work is not None]
    for work in works:
        work()
    turns = [[rate(work) for work in works] for _ in range(repeats)]
    return Row(
        part=part,
        peer=peer_name,
        unit=unit,
        rate=statistics.median(turn[0] for turn in turns),
        ratio=Ratios.of([turn[0] / turn[1] for turn in turns]),
        floor=Ratios.of([turn[0] / turn[2] for turn in turns]) if floor else None,
        **facts,
    )


def rate(work: Work) -> float:
    """Amount of work a second of wall time."""
    gc.collect()
    start = time.perf_counter()
    amount = work()
    return amount / (time.perf_counter() - start)


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [
        "| part | peer | ours | x peer: median (min to max) | must | aim | reached | of the floor | note |",
        "|---|---|---:|---:|---:|---:|---|---:|---|",
    ]
    for row in rows:
        floor = f"{row.floor.to_text()} of {row.floor_name}" if row.floor else ""
        lines.append(
            f"| {row.part} | {row.peer} | {_short(row.rate)} {row.unit}/s | {row.ratio.to_text()} | "
            f"{_figure(row.must)} | {_figure(row.aim)} | {row.reached} | {floor} | {row.note} |"
        )
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g} x"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
