"""``python -m benchmarks [PART ...]``: measures, prints the table in Markdown, writes it as JSON too.

Each row is printed and written as soon as it is measured. A part that fails is a row as well and does not end
the others; the exit status is 1 then. What misses its figure or its condition is no failure: it says NO.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, failure, heading, line

# Modules of this package with a function ``rows(repeats)``.
PARTS = (
    "store",
    "english",
    "pipeline",
    "growth",
    "translation",
    "translator_training",
    "tagger",
    "crf",
    "jobs",
)


def main() -> None:
    """Measure the parts that are named, or all."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("cache/bench"))
    options = parser.parse_args()
    table = _Table(options.out, options.repeats)
    failed: list[str] = []
    for part in options.parts or PARTS:
        print(f"{part} ...", file=sys.stderr, flush=True)
        for row in _rows(part, options.repeats, failed):
            table.add(row)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _rows(part: str, repeats: int, failed: list[str]) -> Iterator[Row]:
    """The rows of a part; where it fails, those before, and one that says so."""
    try:
        yield from importlib.import_module(f"benchmarks.{part}").rows(repeats)
    except (Exception, SystemExit) as error:  # fairseq's own parser of options exits
        traceback.print_exc()
        failed.append(part)
        yield failure(part, error)


class _Table:
    """What was measured so far: on standard output, and in two files that are whole after every row."""

    def __init__(self, out: Path, repeats: int) -> None:
        facts = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        self.out, self.rows = out, list[Row]()
        self.text = f"{repeats} paired repeats on {facts}\n\n{heading()}\n"
        print(self.text, end="", flush=True)

    def add(self, row: Row) -> None:
        """Tell and keep one more."""
        self.rows.append(row)
        self.text += f"{line(row)}\n"
        print(line(row), flush=True)
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "bench.md").write_text(self.text, "utf-8")
        (self.out / "bench.json").write_text(
            json.dumps([row.to_json() for row in self.rows], indent=1), "utf-8"
        )


if __name__ == "__main__":
    main()
