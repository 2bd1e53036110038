"""Put the predictions of other systems beside the runs (``backattn report LANG --with NAME=FILE``).

A file has the sentences of the test split in their order: a token a line, in the first column, and its
predicted tag in the last. Columns are separated by tabs or blanks; the tags are of any scheme with prefixes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backattn.common.errors import CorpusError, ModelError, RecipeError, StaleError
from backattn.common.safe_text import printable, quoted
from backattn.common.text_lines import text_lines
from backattn.corpus import Corpus, Sentence
from backattn.corpus.formats import parse_column_file, split_columns
from backattn.corpus.scoring import Score, score
from backattn.recipe import ColumnFormat, Recipe, Scheme
from backattn.report.comparison import OVERALL, Measure, Row, System, Table
from backattn.report.runs import count_array
from backattn.report.significance import Difference, paired_bootstrap

_LONGEST_NAME = 60
_REMEDY = "give --with NAME=FILE a file of predictions"


def beside_systems(
    tables: Sequence[Table], given: Sequence[str], recipe: Recipe, corpus: Corpus
) -> tuple[Table, ...]:
    """Add other systems to the table of the current corpus.

    :param given: ``NAME=FILE`` texts; a NAME given again is another seed of the same system.
    :raises RecipeError: a text is of another form.
    :raises MissingError: there is no such file.
    :raises CorpusError: a file does not hold the test split; names file and line.
    :raises StaleError: no run has scored this corpus.
    """
    named: dict[str, list[Path]] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not (equals and name.strip() and file) or len(name) > _LONGEST_NAME or printable(name) != name:
            raise RecipeError(
                f"--with {quoted(text)}: expected NAME=FILE, with a NAME of at most {_LONGEST_NAME} "
                "printable characters"
            )
        named.setdefault(name, []).append(Path(file))
    if corpus.digest not in [table.corpus for table in tables]:
        raise StaleError(
            f"--with: no run of {recipe.name} has scored the corpus that its files hold now; run `backattn "
            f"train {recipe.name}`, then report"
        )
    scores = {name: [_score(file, recipe, corpus.test) for file in files] for name, files in named.items()}
    return tuple(
        replace(table, systems=tuple(_system(n, named[n], found, table) for n, found in scores.items()))
        if table.corpus == corpus.digest
        else table
        for table in tables
    )


def _score(path: Path, recipe: Recipe, test: Sequence[Sentence]) -> Score:
    predicted = read_predictions(path, test, docstart=getattr(recipe.corpus.format, "docstart", ""))
    return score([sentence.tags for sentence in test], predicted, recipe.corpus.groups)


def read_predictions(path: Path, test: Sequence[Sentence], *, docstart: str = "") -> list[tuple[str, ...]]:
    """Read the predicted tags of exactly these sentences, as BIOES.

    :param docstart: token of lines that separate documents.
    :raises MissingError: there is no such file.
    :raises CorpusError: the file is no column file, or of other sentences; names file and line.
    """
    format, lines = _detect_format(path, test, docstart)
    sentences = parse_column_file(path, format).sentences
    before = 0  # tokens
    for number, (found, expected) in enumerate(zip(sentences, test, strict=False), 1):
        if found.tokens != expected.tokens:
            raise _other_sentence(path, number, found.tokens, expected.tokens, lines[before:])
        before += len(found)
    if len(sentences) != len(test):
        line = lines[before] if len(sentences) > len(test) else lines[-1]
        raise CorpusError(
            f"{path}:{line}: found {len(sentences):,} sentences, expected the {len(test):,} of the test "
            "split; give the predictions of all its sentences, in its order"
        )
    return [sentence.tags for sentence in sentences]


def _detect_format(path: Path, test: Sequence[Sentence], docstart: str) -> tuple[ColumnFormat, list[int]]:
    """Detect the format of the columns and tags; also return the number of each line with a token."""
    tabs, prefixes, lines = False, set[str](), list[int]()
    most = 2 * (sum(map(len, test)) + len(test)) + 1000
    for number, line in text_lines(path, _REMEDY):
        if number > most:
            raise CorpusError(
                f"{path}:{number}: found more lines than twice those of the test split; expected its "
                f"{len(test):,} sentences, a token a line"
            )
        columns = split_columns(line)
        if columns and columns[0] != docstart:
            tabs |= "\t" in line
            lines.append(number)
            prefixes.add(columns[-1].partition("-")[0])
    scheme = _scheme(prefixes)
    format = ColumnFormat(
        scheme=scheme,
        orphans="begin" if scheme == "IOB2" else "refuse",
        separator="tab" if tabs else "whitespace",
        docstart=docstart,
    )
    return format, lines


def _scheme(prefixes: set[str]) -> Scheme:
    """Return the scheme with these prefixes. B and I alone are IOB2 here, with orphans, which covers IOB1."""
    if prefixes & {"L", "U"}:
        return "BILOU"
    if prefixes & {"M", "W"}:
        return "BMEWO" if "W" in prefixes else "BMES"
    return "BIOES" if prefixes & {"E", "S"} else "IOB2"


def _other_sentence(
    path: Path, number: int, found: Sequence[str], expected: Sequence[str], lines: Sequence[int]
) -> CorpusError:
    same = next(
        (i for i, (one, other) in enumerate(zip(found, expected, strict=False)) if one != other),
        min(len(found), len(expected)),
    )
    # The line of the token, or the last of a sentence that ends too early.
    line = lines[min(same, len(found) - 1)]
    what = quoted(found[same]) if same < len(found) else f"the end of the sentence after {quoted(found[-1])}"
    wanted = quoted(expected[same]) if same < len(expected) else "the end of the sentence"
    return CorpusError(
        f"{path}:{line}: found {what}, expected {wanted} (sentence {number:,} of the test split, token "
        f"{same + 1:,}); give the predictions of the test split, in its order"
    )


def _system(name: str, files: Sequence[Path], scores: Sequence[Score], table: Table) -> System:
    measures = {group: Measure(tuple(one.group(group).f1 for one in scores)) for group in scores[0].groups}
    measures[OVERALL] = Measure(tuple(one.overall.f1 for one in scores))
    types = {
        kind: Measure(tuple(one.types[kind].f1 if kind in one.types else 0.0 for one in scores))
        for kind in table.support
    }
    own = _own_row(table)
    if own is None:
        return System(name, tuple(files), measures, types)
    counts = np.stack([count_array(one.sentences) for one in scores])
    remark = "" if len(files) in (1, len(own.seeds)) else "not of all seeds"
    return System(name, tuple(files), measures, types, _difference(counts, own), own.name, remark)


def _own_row(table: Table) -> Row | None:
    """Choose the row of Back Attention nearest to the recipe, with the most sentences, then epochs."""
    rows = [row for row in table.rows if row.inputs == "words+transfer"]
    return max(rows, key=lambda row: (not row.setting, row.sentences, row.epochs), default=None)


def _difference(counts: NDArray[np.int64], own: Row) -> Difference:
    """Bootstrap the difference. A single file has no seeds, so it is compared with each seed of ours.

    :raises ModelError: the runs have scored another number of sentences than the test split has.
    """
    if counts.shape[1:] != own.runs[0].counts.shape:
        raise ModelError(
            f"{own.runs[0].folder}: scores {len(own.runs[0].counts)} test sentences, the corpus has "
            f"{counts.shape[1]}; remove the damaged run and train again"
        )
    seeds = own.seeds if len(counts) == 1 else own.seeds[: len(counts)]
    base = np.stack([run.counts for run in own.runs[: len(seeds)]])
    system = np.repeat(counts, len(seeds), axis=0) if len(counts) == 1 else counts[: len(seeds)]
    return paired_bootstrap(base, system, seeds=seeds)


def system_json(system: System) -> Mapping[str, object]:
    """Plain JSON values; F1 in [0, 1]."""
    difference = system.difference
    return {
        "name": system.name,
        "files": [str(path) for path in system.files],
        "test_f1": {name: list(measure.values) for name, measure in system.measures.items()},
        "types_f1": {name: list(measure.values) for name, measure in system.types.items()},
        "against": system.against,
        "difference": (
            {"value": difference.value, "low": difference.low, "high": difference.high, "p": difference.p}
            if difference
            else None
        ),
    }
