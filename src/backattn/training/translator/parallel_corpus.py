"""Read sentence pairs from the parallel files and dictionaries of a recipe; count what is left out.

A pair is raw text here; :mod:`~backattn.training.translator.subword_data` tokenises it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from backattn.common.errors import CorpusError, RecipeError
from backattn.common.safe_text import listed, quoted
from backattn.common.text_lines import BYTE_ORDER_MARK, text_lines
from backattn.corpus import evenly_spread
from backattn.models.cedict import read_entries
from backattn.recipe import PACKAGED, DictionaryFile, ParallelFile, TranslatorTraining, data_path

_T = TypeVar("_T")


class SentencePair(NamedTuple):
    """A foreign sentence and its English translation, both without surrounding white space."""

    foreign: str
    english: str


@dataclass(frozen=True, kw_only=True)
class FileCounts:
    """Counts of the lines of one parallel file (of the recipe's groups, up to its limit).

    :param pairs: training pairs, each counted once.
    :param repeat: how often each of them counts.
    :param empty: lines left out because a side is empty (a lexicon's empty cell, a dictionary's entry of
        which no gloss is a translation).
    :param held_out: pairs left out because a side is also in the held-out files.
    """

    path: str
    pairs: int
    repeat: int
    empty: int
    held_out: int


@dataclass(frozen=True, kw_only=True)
class BackTranslationCounts:
    """Counts of one file of English text that is translated back.

    :param pairs: its sentences with their translations, each counted once.
    :param repeat: how often each of them counts.
    :param known: sentences left out because they are the English side of a pair, or repeat an earlier one.
    :param empty: lines without a sentence.
    :param untranslated: sentences left out because their translation is empty or reached its length limit.
    """

    path: str
    pairs: int
    repeat: int
    known: int
    empty: int
    untranslated: int


@dataclass(frozen=True)
class TrainingText:
    """The pairs for training, validating and testing one translator.

    :param train: the training pairs, repeated as the recipe says, in the order of its files; back-translated
        ones are the last.
    :param valid, test: the held-out pairs; none of their sides is a side of a training pair.
    :param files: counts of each training file.
    :param translated_back: counts of each file of English text.
    :param other_english: English sides of pairs that were left out because of their foreign side: other
        translations of held-out sentences.
    """

    train: tuple[SentencePair, ...]
    valid: tuple[SentencePair, ...]
    test: tuple[SentencePair, ...]
    files: tuple[FileCounts, ...]
    translated_back: tuple[BackTranslationCounts, ...] = ()
    other_english: frozenset[str] = frozenset()


def read_training_text(training: TranslatorTraining) -> TrainingText:
    """Read every parallel file of a recipe and remove the held-out pairs from the training pairs.

    A training pair is removed when *either* side equals, character by character, that side of a pair of
    ``valid`` or ``test``: the same English sentence with another translation would leak it as well.

    :raises CorpusError: a malformed line (names file and line), or no pair is left.
    :raises MissingError: a file is not there.
    :raises RecipeError: ``only`` or ``exclude`` name a group that the file does not have.
    """
    valid, _ = read_pairs(training.valid)
    test, _ = read_pairs(training.test)
    for part, pairs in ((training.valid, valid), (training.test, test)):
        if not pairs:
            raise CorpusError(f"{data_path(part.path)}: no pair to hold out: all lines have an empty side")
    foreign = {pair.foreign for pair in [*valid, *test]}
    english = {pair.english for pair in [*valid, *test]}
    train: list[SentencePair] = []
    files = []
    other_english: set[str] = set()
    sources: list[ParallelFile | DictionaryFile] = [*training.parallel, *training.dictionaries]
    for file in sources:
        pairs, empty = read_pairs(file)
        kept = [pair for pair in pairs if pair.foreign not in foreign and pair.english not in english]
        train += kept * file.repeat
        held_out = len(pairs) - len(kept)
        other_english.update(pair.english for pair in pairs if pair.foreign in foreign)
        files.append(
            FileCounts(path=file.path, pairs=len(kept), repeat=file.repeat, empty=empty, held_out=held_out)
        )
    if not train:
        raise CorpusError("the recipe's translator.training.parallel gives no pair to train on")
    return TrainingText(
        tuple(train), tuple(valid), tuple(test), tuple(files), other_english=frozenset(other_english)
    )


def read_pairs(file: ParallelFile | DictionaryFile) -> tuple[list[SentencePair], int]:
    """Read one parallel file or dictionary; also return how many lines had an empty side.

    :raises CorpusError: names the file and line of a missing column or an undecodable byte.
    """
    if isinstance(file, DictionaryFile):
        pairs = [SentencePair(entry.simplified, entry.gloss) for entry in read_entries(file)]
    else:
        rows = _aligned_rows(file) if file.english_path else _column_rows(file)
        pairs = [SentencePair(foreign, english) for foreign, english in rows]
    full = [pair for pair in pairs if pair.foreign and pair.english]
    return evenly_spread(full, file.limit), len(pairs) - len(full)


def _column_rows(file: ParallelFile) -> Iterator[tuple[str, str]]:
    path = data_path(file.path)
    if file.group < 0 and (file.only or file.exclude):
        raise RecipeError(f"{path}: only and exclude need group, the column that they refer to")
    groups: set[str] = set()
    last = max(file.foreign, file.english, file.group)
    for number, line in _lines(path):
        if file.header and number == 1:
            continue
        cells = line.split("\t")
        if len(cells) <= last:
            raise CorpusError(
                f"{path}:{number}: expected at least {last + 1} columns separated by tabs, "
                f"found {len(cells)}; "
                "mend the line or the columns of the recipe's translator.training"
            )
        if file.group >= 0:
            groups.add(cells[file.group])
            if not _wanted(file, cells[file.group]):
                continue
        yield cells[file.foreign].strip(), cells[file.english].strip()
    _check_groups(file, path, groups)


def _wanted(file: ParallelFile, group: str) -> bool:
    return group not in file.exclude and (not file.only or group in file.only)


def _check_groups(file: ParallelFile, path: Path, known: set[str]) -> None:
    """Refuse a misspelt group: excluding nothing would train on the test set unnoticed."""
    for key, names in (("only", file.only), ("exclude", file.exclude)):
        for name in names:
            if name not in known:
                raise RecipeError(
                    f"{path}: {key} names {quoted(name)}, but column {file.group} holds "
                    f"{listed(sorted(known)[:20])}"
                )


def _aligned_rows(file: ParallelFile) -> Iterator[tuple[str, str]]:
    paths = data_path(file.path), data_path(file.english_path)
    if file.header or file.group >= 0 or file.only or file.exclude:
        raise RecipeError(
            f"{paths[0]}: header, group, only and exclude refer to columns; a file with english_path has none"
        )
    foreign, english = ([line.strip() for _, line in _lines(path)] for path in paths)
    if len(foreign) != len(english):
        raise CorpusError(
            f"{paths[0]}: {len(foreign)} lines, but {paths[1]} has {len(english)}; "
            "line-aligned files need one line for each line of the other"
        )
    yield from zip(foreign, english, strict=True)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    remedy = (
        f"put the parallel file there ({PACKAGED / 'DATA.md'} says where ours come from), or set "
        "BACKATTN_DATA to the folder that holds it"
    )
    for number, line in text_lines(path, remedy):
        yield number, line.removeprefix(BYTE_ORDER_MARK)
