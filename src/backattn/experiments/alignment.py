"""How good is A? Its alignment error rate on hand-aligned sentence pairs, beside that of the diagonal.

The translator is made to write the given English, so that its A is over the very words which people aligned.
A is then read as links in four ways, and so is the A of two sentences that run at one pace.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backattn.common.atomic_files import make_own_folder, write_whole_text
from backattn.common.digests import digest
from backattn.common.errors import StoreError
from backattn.corpus import Corpus
from backattn.features.attention import diagonal
from backattn.features.plan import make_plan
from backattn.features.word_alignment_io import LinkedPair, Links, Tokens, read_linked_pairs
from backattn.recipe import AlignmentRecipe, Recipe, Unit, as_json, cache_root, data_path
from backattn.translation.attention_merging import Array

# Pairs of source and English tokens -> the A of each, EOS last on both sides.
Align = Callable[[Sequence[tuple[Tokens, Tokens]]], Sequence[Array]]

_AROUND = [step for step in itertools.product((-1, 0, 1), repeat=2) if step != (0, 0)]


@dataclass(frozen=True)
class AlignmentScore:
    """Links beside gold links, counted over all pairs.

    :param links: A, the links that are scored.
    :param sure: S, the sure gold links.
    :param in_sure, in_possible: how many of A are in S, and in P.
    """

    links: int
    sure: int
    in_sure: int
    in_possible: int

    @property
    def precision(self) -> float:
        """``|A & P| / |A|``; 0 without links."""
        return self.in_possible / self.links if self.links else 0.0

    @property
    def recall(self) -> float:
        """``|A & S| / |S|``; 0 without sure links."""
        return self.in_sure / self.sure if self.sure else 0.0

    @property
    def aer(self) -> float:
        """``1 - (|A & S| + |A & P|) / (|A| + |S|)`` (Och and Ney 2003); 0 where nothing is linked."""
        both = self.links + self.sure
        return 1 - (self.in_sure + self.in_possible) / both if both else 0.0


@dataclass(frozen=True)
class AlignmentReport:
    """What ``backattn align`` answers.

    :param path: the file of gold pairs.
    :param sure, possible: gold links; the possible ones include the sure ones.
    :param scores: name of the A -> way of reading it -> its score.
    """

    path: str
    pairs: int
    sure: int
    possible: int
    scores: dict[str, dict[str, AlignmentScore]]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        scores = {
            name: {
                way: {**asdict(score), "precision": score.precision, "recall": score.recall, "aer": score.aer}
                for way, score in ways.items()
            }
            for name, ways in self.scores.items()
        }
        return {**asdict(self), "scores": scores}

    def to_text(self) -> str:
        """A table for a terminal."""
        lines = [
            f"{self.path}: {self.pairs} pairs, {self.sure} sure and {self.possible} possible links",
            f"{'A':<12}{'links':<16}{'number':>8}{'precision':>11}{'recall':>8}{'AER':>8}",
        ]
        lines += [
            f"{name:<12}{way:<16}{score.links:>8}{score.precision:>11.3f}{score.recall:>8.3f}{score.aer:>8.3f}"
            for name, ways in self.scores.items()
            for way, score in ways.items()
        ]
        return "\n".join(lines)


def measure_alignment(recipe: AlignmentRecipe, unit: Unit, align: Align) -> AlignmentReport:
    """Align the gold pairs by force and compare.

    :param unit: what the translator takes for a source token; a gold word of several characters has, where
        that is a character, the sum of their rows of A.
    :param align: the translator's.
    :raises MissingError: a gold file is not there.
    :raises CorpusError: it is not what the recipe says; names file and line.
    """
    pairs = read_linked_pairs(recipe, "alignment")
    characters = unit == "character"
    sources = [tuple("".join(pair.foreign)) if characters else pair.foreign for pair in pairs]
    looked = align([(source, pair.english) for source, pair in zip(sources, pairs, strict=True)])
    attentions = [whole[:-1, :-1] for whole in looked]
    if characters:
        attentions = [_of_words(a, pair.foreign) for a, pair in zip(attentions, pairs, strict=True)]
    straight = [diagonal(len(pair.foreign), len(pair.english)) for pair in pairs]
    scores = {
        name: {way: score_links(map(read, made), pairs) for way, read in READINGS.items()}
        for name, made in (("translator", attentions), ("diagonal", straight))
    }
    sure, possible = sum(len(pair.sure) for pair in pairs), sum(len(pair.possible) for pair in pairs)
    return AlignmentReport(str(data_path(recipe.path)), len(pairs), sure, possible, scores)


def keep_alignment(report: AlignmentReport, recipe: Recipe) -> Path:
    """Leave the scores in the cache, where ``backattn report`` finds them by the very translator.

    :return: the file; one of the same translator is replaced.
    :raises MissingError: the translator is not there any more.
    :raises StoreError: the disk or the folder refuses.
    """
    path = alignment_path(recipe)
    try:
        make_own_folder(path.parent)
        write_whole_text(path, json.dumps(report.to_json(), ensure_ascii=False, indent=1) + "\n")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error}); free space or fix the folder") from None
    return path


def alignment_path(recipe: Recipe) -> Path:
    """Where the scores of a translator are kept: by its files, what A depends on besides, and the gold pairs.

    How it searches is no part of that: it does not search for a translation that is given.

    :raises MissingError: the translator is not there.
    """
    translator = recipe.translator
    table = as_json(translator)
    asked = {key: table.get(key) for key in ("kind", "source", "layers", "precision", "revision")}
    gold = as_json(recipe.alignment) if recipe.alignment else None
    # A store's name asks for no corpus.
    models = make_plan(recipe, Corpus((), (), ())).translation.models
    return (
        cache_root()
        / recipe.name
        / "alignment"
        / f"{digest({**asked, 'model': models, 'gold': gold})[:14]}.json"
    )


def score_links(found: Iterable[Links], gold: Sequence[LinkedPair]) -> AlignmentScore:
    """Count links over all pairs.

    :raises ValueError: there are more pairs on one side.
    """
    rows = [
        (len(links), len(pair.sure), len(links & pair.sure), len(links & pair.possible))
        for links, pair in zip(found, gold, strict=True)
    ]
    return AlignmentScore(*map(sum, zip(*rows, strict=True)))


def by_foreign(attention: Array) -> Links:
    """Each foreign word with the English word that looked at it most. *Shape:* (m, n)"""
    return frozenset(enumerate(attention.argmax(1).tolist()))


def by_english(attention: Array) -> Links:
    """Each English word with the foreign word that it looked at most. *Shape:* (m, n)"""
    return frozenset((j, i) for i, j in enumerate(attention.argmax(0).tolist()))


def by_both(attention: Array) -> Links:
    """The links that both of these find. *Shape:* (m, n)"""
    return by_foreign(attention) & by_english(attention)


def grown(attention: Array) -> Links:
    """grow-diag (Koehn, Och and Marcu 2003): from the links of both, by neighbours that one of them finds.

    A link joins when it touches one that is there, and a word of it has none yet. *Shape:* (m, n)
    """
    links, union = set(by_both(attention)), by_foreign(attention) | by_english(attention)
    while True:
        before = len(links)
        for j, i in sorted(union - links):
            free = all(j != foreign for foreign, _ in links) or all(i != english for _, english in links)
            if free and any((j + down, i + right) in links for down, right in _AROUND):
                links.add((j, i))
        if len(links) == before:
            return frozenset(links)


# How a matrix of attention becomes links.
READINGS: dict[str, Callable[[Array], Links]] = {
    "foreign word": by_foreign,
    "English word": by_english,
    "intersection": by_both,
    "grow-diag": grown,
}


# Of these, the one to name when only one is named: T takes A by its rows, too.
HEADLINE = "foreign word"


def _of_words(attention: Array, words: Tokens) -> Array:
    """Rows of characters -> rows of words: probability mass adds up. *Shapes:* (c, n) -> (m, n)"""
    starts = np.cumsum([0, *map(len, words[:-1])])
    merged: Array = np.add.reduceat(attention, starts, axis=0)
    return merged
