"""Ours, peer and floor side by side, in pairs, in one run; what counts is the ratio of a pair.

The machines that this runs on are shared: a time alone says little, the median of paired ratios much.
"""

import gc
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
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
    :param figure: ours in words, where it is no rate.
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
    figure: str = ""

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


def within(*, part: str, budget: str, unit: str, limit: float, measured: list[float], note: str = "") -> Row:
    """A row for what must stay below a limit; its ratio is limit over measured, so above 1 is within it."""
    median = statistics.median(measured)
    return Row(
        part=part, peer=budget, unit=unit, rate=median, figure=f"{median:.3g} {unit}", must=1.0, note=note,
        ratio=Ratios.of([limit / value for value in measured]),
    )  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What a process took.

    :param seconds: wall time.
    :param cpu: seconds of processor time.
    :param memory: peak of its own memory in MB; pages of files that it maps are not counted.
    """

    seconds: float
    cpu: float
    memory: float


def watched(command: list[str]) -> Cost:
    """Run a command to its end and look at it a hundred times a second.

    :raises CalledProcessError: it failed.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    peak = 0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, _own_memory(process.pid))
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        output.seek(0)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, output.read())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, cpu, peak / 1024)


def _own_memory(pid: int) -> int:
    """KiB in memory that no file backs."""
    with suppress(OSError):  # it has just ended
        for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    return 0


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
            f"| {row.part} | {row.peer} | {row.figure or f'{_short(row.rate)} {row.unit}/s'} | "
            f"{row.ratio.to_text()} | "
            f"{_figure(row.must)} | {_figure(row.aim)} | {row.reached} | {floor} | {row.note} |"
        )
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g} x"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
