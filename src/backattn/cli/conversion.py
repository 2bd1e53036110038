"""The command that converts labelled files of other tools."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from backattn.cli.options import answer, json_option
from backattn.common.safe_text import printable
from backattn.conversion.kinds import KINDS


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--from", "kind", type=click.Choice(KINDS), help="Kind of FILE; default: detected from its content."
)
@click.option("--source", default="", metavar="XX", help="Language code of running text, to split it.")
@click.option(
    "--overlap", type=click.Choice(["refuse", "longest"]), default="refuse", show_default=True,
    help="Entities that overlap, are nested or have gaps: refuse the file, or keep the longest of them.",
)  # fmt: skip
@click.option(
    "--names", default="", metavar="O,B-PER,...", help="The tags that the numbers 0, 1, ... stand for."
)
@click.option("--replace", is_flag=True, help="Write over OUT if it is there.")
@json_option
def convert(
    file: Path, out: Path, kind: Any, source: str, overlap: Any, names: str, replace: bool, as_json: bool
) -> None:
    """Convert FILE of another tool to OUT, a column file (.tsv) or JSON lines (.jsonl), in IOB2.

    FILE is a BRAT folder, an export of doccano, Prodigy or Label Studio, a spaCy DocBin, a Parquet file, a
    folder of `datasets`, a column file, CoNLL-U or JSON lines.
    """
    from backattn.conversion.convert import convert_file
    from backattn.conversion.source import make_options

    done = convert_file(file, out, kind=kind, options=make_options(source, overlap, names), replace=replace)
    form = f", {done.form}" if done.form else ""
    how = " (detected from its content; --from sets another)" if done.guessed else ""
    lines = [
        f"{printable(str(file))}: read as {done.kind}{form}{how}",
        f"{printable(str(out))}: wrote {done.sentences:,} sentences, {done.tokens:,} tokens, "
        f"{done.entities:,} entities; read it with corpus.format "
        + ('kind = "jsonl"' if out.suffix == ".jsonl" else 'kind = "columns", separator = "tab"'),
    ]
    if done.overlapping:
        lines.append(f"left out {done.overlapping:,} entities (or parts of one) for a longer one")
    if done.rejected:
        lines.append(f"left out {done.rejected:,} texts that are not annotated, or not accepted")
    answer(asdict(done), "\n".join(lines), as_json)
