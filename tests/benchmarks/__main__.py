"""``python -m benchmarks [PART ...]``: measures, prints the table in Markdown, writes it as JSON too."""

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path

from benchmarks.measure import Row, table

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
    rows: list[Row] = []
    for part in options.parts or PARTS:
        print(f"{part} ...", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"benchmarks.{part}").rows(options.repeats)
        # After each part: the whole takes an hour, and may be stopped.
        text = _write(rows, options.repeats, options.out)
    print(text)


def _write(rows: list[Row], repeats: int, out: Path) -> str:
    facts = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    text = f"{repeats} paired repeats on {facts}\n\n{table(rows)}\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.md").write_text(text, "utf-8")
    (out / "bench.json").write_text(json.dumps([row.to_json() for row in rows], indent=1), "utf-8")
    return text


if __name__ == "__main__":
    main()
