"""Convert a labelled file of any known kind to a column file or JSON lines."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from backattn.common.atomic_files import write_whole_text
from backattn.common.errors import CorpusError, RecipeError
from backattn.common.safe_text import listed
from backattn.conversion.annotation_tools import read_doccano, read_label_studio, read_prodigy
from backattn.conversion.brat import read_brat
from backattn.conversion.docbin import read_docbin
from backattn.conversion.kinds import Kind, guess_kind
from backattn.conversion.rows import SCHEMES, read_token_lines
from backattn.conversion.source import Options, Source, first
from backattn.conversion.tables import TAGS, TOKENS, read_parquet, read_saved_dataset
from backattn.corpus import Sentence
from backattn.corpus.conllu import MISC, misc_pairs
from backattn.corpus.formats import parse_file
from backattn.corpus.jsonl import json_lines
from backattn.corpus.labelled import DOCSTART
from backattn.corpus.labelled_lines import labelled_lines
from backattn.corpus.spans import spans
from backattn.corpus.tags import OUTSIDE, from_bioes, is_tag
from backattn.recipe import ColumnFormat, ConlluFormat, CorpusFormat

COLUMN_ENDINGS = (".tsv", ".txt", ".conll", ".bio", ".iob")
JSON_ENDINGS = (".jsonl",)


@dataclass(frozen=True)
class Conversion:
    """The outcome of a conversion.

    :param kind: kind of the file.
    :param guessed: whether the kind was detected from the content.
    :param form: what else was detected, such as the tag scheme, in words.
    :param sentences, tokens, entities: how many of them were written.
    :param overlapping: number of spans that were left out because they overlapped a longer one.
    :param rejected: number of texts that were left out because the annotator had not accepted them.
    """

    kind: Kind
    guessed: bool
    form: str
    sentences: int
    tokens: int
    entities: int
    overlapping: int
    rejected: int


def convert_file(
    path: Path, out: Path, *, kind: Kind | None, options: Options, replace: bool = False
) -> Conversion:
    """Convert a file, and write the result in IOB2: a column file or JSON lines, by the ending of ``out``.

    :param kind: kind of the file; None to detect it from the content.
    :param replace: overwrite ``out`` if it exists.
    :raises BackattnError: the file does not fit its kind, a library is missing, or ``out`` exists.
    """
    if out.suffix not in (*COLUMN_ENDINGS, *JSON_ENDINGS):
        raise RecipeError(
            f"{out}: expected a name that ends in {', '.join(COLUMN_ENDINGS)} (columns) or "
            f"{', '.join(JSON_ENDINGS)} (JSON lines)"
        )
    if os.path.lexists(out):
        if _is_read(path, out, kind):
            raise RecipeError(f"{out}: is there already, and is part of the input {path}; name another file")
        if not replace or out.is_dir():
            advice = "say --replace to write over it" if out.is_file() else "name another file"
            raise RecipeError(f"{out}: is there already; {advice}")
    found = kind or guess_kind(path)
    source = _read(path, found, options)
    if not source.sentences:
        count = source.rejected
        left_out = f", {count:,} texts that are not annotated, or not accepted" if count else ""
        raise CorpusError(
            f"{path}: found no sentence (as {found}){left_out}; is the kind the right one? Say --from KIND"
        )
    write_whole_text(
        out,
        "".join(_json_lines(source.sentences) if out.suffix in JSON_ENDINGS else _columns(source.sentences)),
    )
    return Conversion(
        kind=found,
        guessed=kind is None,
        form=source.form,
        sentences=len(source.sentences),
        tokens=sum(map(len, source.sentences)),
        entities=sum(len(spans(sentence.tags)) for sentence in source.sentences),
        overlapping=source.overlapping,
        rejected=source.rejected,
    )


def _is_read(path: Path, out: Path, kind: Kind | None) -> bool:
    """Return whether the existing ``out`` is part of the input: in its folder, or BRAT's .txt or .ann."""
    if path.is_dir():
        return out.parent.resolve().is_relative_to(path.resolve())
    beside = [path]
    if kind == "brat" or path.suffix in (".txt", ".ann"):
        beside += [path.with_suffix(".txt"), path.with_suffix(".ann")]
    return out.exists() and any(file.exists() and file.samefile(out) for file in beside)


def _read(path: Path, kind: Kind, options: Options) -> Source:
    match kind:
        case "brat":
            return read_brat(path, options)
        case "doccano":
            return read_doccano(path, options)
        case "prodigy":
            return read_prodigy(path, options)
        case "label-studio":
            return read_label_studio(path, options)
        case "docbin":
            return read_docbin(path, options)
        case "parquet":
            return read_parquet(path, options)
        case "datasets":
            return read_saved_dataset(path, options)
        case "jsonl":
            return read_token_lines(path, options, _token_fields(path))
        case "columns":
            return _first_scheme(
                path, [(s, ColumnFormat(scheme=s, comment="#", docstart=DOCSTART)) for s in SCHEMES]
            )
        case "conllu":
            return _first_scheme(path, _conllu_formats(path))


def _token_fields(path: Path) -> tuple[str, str]:
    _, row = next(json_lines(path), (0, {}))
    fields = first(row, TOKENS), first(row, TAGS)
    if not all(fields):
        raise CorpusError(
            f"{path}:1: found the fields {listed(list(row)) or 'none'}, expected one of {', '.join(TOKENS)} "
            f"and one of {', '.join(TAGS)}; rename them"
        )
    return fields


def _conllu_formats(path: Path) -> Iterable[tuple[str, ConlluFormat]]:
    """Yield formats to try: tags in column 2 (Universal NER), in the last column, or under a key of MISC.

    MISC is searched for keys only if no column fits.
    """
    for tag, key in chain(((2, ""), (-1, "")), ((MISC, key) for key in _misc_keys(path))):
        where = f"MISC by the key {key}" if key else f"column {tag}"
        for scheme in SCHEMES:
            yield f"{scheme}, in {where}", ConlluFormat(scheme=scheme, tag=tag, tag_key=key)


def _misc_keys(path: Path) -> Iterator[str]:
    """Yield the keys of MISC whose values are tags (NER, NE, name or any other), most entities first."""
    entities = Counter[str]()
    for _, line in labelled_lines(path, "a CoNLL-U file"):
        for key, value in misc_pairs("".join(line.split("\t")[MISC : MISC + 1])):
            if key and any(is_tag(value, scheme) for scheme in SCHEMES):
                entities[key] += value != OUTSIDE
    yield from (key for key, _ in entities.most_common())


def _first_scheme(path: Path, formats: Iterable[tuple[str, CorpusFormat]]) -> Source:
    """Read a file of columns by the first format that it fits.

    :param formats: a description and the format, in the order of trial.
    :raises CorpusError: the file fits none; the error is that of the first format.
    """
    problem: CorpusError | None = None
    for name, format in formats:
        try:
            return Source(list(parse_file(path, format).sentences), form=f"tags in {name}")
        except CorpusError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _columns(sentences: Iterable[Sentence]) -> Iterable[str]:
    for sentence in sentences:
        pairs = zip(sentence.tokens, from_bioes(sentence.tags, "IOB2"), strict=True)
        yield "".join(f"{token}\t{tag}\n" for token, tag in pairs) + "\n"


def _json_lines(sentences: Iterable[Sentence]) -> Iterable[str]:
    for sentence in sentences:
        row = {"tokens": sentence.tokens, "ner_tags": from_bioes(sentence.tags, "IOB2")}
        yield json.dumps(row, ensure_ascii=False) + "\n"
