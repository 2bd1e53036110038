"""Ours, peer and floor side by side, in pairs, in one run; what counts is the ratio of a pair.

The machines that this runs on are shared: a time alone says little, the median of paired ratios much.
A benchmark reports and never asserts: what should be equal, and is not, is a row that says so
(:func:`condition`), and costs nothing of what was measured.
"""

import gc
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
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
    :param ratio: our rate over the peer's; above 1 we are faster. None where a condition was looked at.
    :param must, aim: what the ratio has to reach, and what it ought to.
    :param held: whether the condition held; None where a rate was measured.
    :param floor: our rate over that of the floor (the least that the work can take), if it has one.
    :param floor_name: what the floor is.
    :param note: which checkpoint, which text, what was found equal.
    :param figure: ours in words, where it is no rate.
    """

    part: str
    peer: str
    unit: str
    rate: float
    ratio: Ratios | None
    must: float | None = None
    aim: float | None = None
    floor: Ratios | None = None
    floor_name: str = ""
    note: str = ""
    figure: str = ""
    held: bool | None = None

    @property
    def reached(self) -> str:
        """Whether the median reaches its figure, or the condition held, in words."""
        if self.held is not None:
            return "yes" if self.held else "NO"
        if self.must is None or self.ratio is None:
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


def condition(part: str, expected: str, *, held: bool, found: str) -> Row:
    """A row that says whether something held without which the rates of a part mean little.

    :param expected: what should hold: "equal tags".
    :param found: what was seen: "400 of 400 sentences".
    """
    figure = found if held else f"differs: {found}"
    return Row(part=part, peer=expected, unit="", rate=0.0, ratio=None, figure=figure, held=held)


def failure(part: str, error: BaseException) -> Row:
    """A row for a part that did not come to its end."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).replace("|", "/")
    return condition(part, "the part comes to its end", held=False, found=f"failed, {text[:300]}")


@dataclass(frozen=True)
class Cost:
    """What a process took.

    :param seconds: wall time.
    :param cpu: seconds of processor time.
    :param memory: peak of its own memory in MB; pages of files that it maps are not counted.
    :param output: what it printed.
    """

    seconds: float
    cpu: float
    memory: float
    output: str = ""


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
        text = output.read().decode("utf-8", "replace")
        if process.returncode:
            error = subprocess.CalledProcessError(process.returncode, command, text)
            error.add_note(text[-4000:])
            raise error
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, cpu, peak / 1024, text)


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


def heading() -> str:
    """The first two lines of the table, in Markdown."""
    names = (
        "part",
        "peer",
        "ours",
        "x peer: median (min to max)",
        "must",
        "aim",
        "reached",
        "of the floor",
        "note",
    )
    return f"{_line(names)}\n|---|---|---:|---:|---:|---:|---|---:|---|"


def line(row: Row) -> str:
    """One more line of the table."""
    return _line(
        (
            row.part,
            row.peer,
            row.figure or f"{_short(row.rate)} {row.unit}/s",
            row.ratio.to_text() if row.ratio else "",
            _figure(row.must),
            _figure(row.aim),
            row.reached,
            f"{row.floor.to_text()} of {row.floor_name}" if row.floor else "",
            row.note,
        )
    )


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g} x"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
