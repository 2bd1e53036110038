"""Measure the alignment error rate of the attention A on hand-aligned sentence pairs.

The translator force-decodes the given English, so that A is over the words that people aligned. Four methods
extract links from A, and from a diagonal A as the baseline.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backattn.common.atomic_files import write_text
from backattn.common.digests import digest
from backattn.corpus import Corpus
from backattn.features.attention import diagonal
from backattn.features.plan import make_plan
from backattn.features.word_alignment_io import LinkedPair, Links, Tokens, read_linked_pairs
from backattn.recipe import AlignmentRecipe, Recipe, Unit, as_json, cache_root, data_path
from backattn.translation.attention_merging import Array

# Computes the A of pairs of source and English tokens by forced decoding; EOS is last on both sides.
Align = Callable[[Sequence[tuple[Tokens, Tokens]]], Sequence[Array]]

# Steps (English, foreign) to the neighbours of a link, in the order of Moses' symal: straight, then diagonal.
_NEIGHBOURS = [(-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)]


@dataclass(frozen=True)
class AlignmentScore:
    """Counts of links and gold links over all pairs, and the measures computed from them.

    :param links: size of A, the links that are scored.
    :param sure: size of S, the sure gold links.
    :param in_sure, in_possible: sizes of A & S and A & P, P being the possible gold links.
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
        """``1 - (|A & S| + |A & P|) / (|A| + |S|)`` (Och and Ney 2003); 0 without any links."""
        both = self.links + self.sure
        return 1 - (self.in_sure + self.in_possible) / both if both else 0.0


@dataclass(frozen=True)
class AlignmentReport:
    """The result of ``backattn align``.

    :param path: the file of gold pairs.
    :param pairs: number of sentence pairs.
    :param sure, possible: numbers of gold links; the possible ones include the sure ones.
    :param scores: name of the A -> method that extracts links -> score.
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
                method: {
                    **asdict(score),
                    "precision": score.precision,
                    "recall": score.recall,
                    "aer": score.aer,
                }
                for method, score in methods.items()
            }
            for name, methods in self.scores.items()
        }
        return {**asdict(self), "scores": scores}

    def to_text(self) -> str:
        """A table for the terminal."""
        lines = [
            f"{self.path}: {self.pairs} pairs, {self.sure} sure and {self.possible} possible links",
            f"{'A':<12}{'links':<16}{'number':>8}{'precision':>11}{'recall':>8}{'AER':>8}",
        ]
        lines += [
            f"{name:<12}{method:<16}{score.links:>8}{score.precision:>11.3f}{score.recall:>8.3f}{score.aer:>8.3f}"
            for name, methods in self.scores.items()
            for method, score in methods.items()
        ]
        return "\n".join(lines)


def measure_alignment(recipe: AlignmentRecipe, unit: Unit, align: Align) -> AlignmentReport:
    """Align the gold pairs by forced decoding, extract links, and score them.

    :param unit: the translator's source token; where it is a character, the row of A of a gold word is the
        sum of its characters' rows.
    :param align: the translator's forced decoding.
    :raises MissingError: a gold file does not exist.
    :raises CorpusError: a gold file does not fit the recipe; names file and line.
    """
    pairs = read_linked_pairs(recipe, "alignment")
    characters = unit == "character"
    sources = [tuple("".join(pair.foreign)) if characters else pair.foreign for pair in pairs]
    with_eos = align([(source, pair.english) for source, pair in zip(sources, pairs, strict=True)])
    attentions = [whole[:-1, :-1] for whole in with_eos]
    if characters:
        attentions = [_merge_characters(a, pair.foreign) for a, pair in zip(attentions, pairs, strict=True)]
    diagonals = [diagonal(len(pair.foreign), len(pair.english)) for pair in pairs]
    scores = {
        name: {method: score_links(map(extract, given), pairs) for method, extract in EXTRACTORS.items()}
        for name, given in (("translator", attentions), ("diagonal", diagonals))
    }
    sure, possible = sum(len(pair.sure) for pair in pairs), sum(len(pair.possible) for pair in pairs)
    return AlignmentReport(str(data_path(recipe.path)), len(pairs), sure, possible, scores)


def keep_alignment(report: AlignmentReport, recipe: Recipe) -> Path:
    """Write the scores to the cache, where ``backattn report`` finds them by the translator.

    :return: the file; an older one of the same translator is replaced.
    :raises MissingError: the translator's files do not exist any more.
    :raises StoreError: the file cannot be written.
    """
    path = alignment_path(recipe)
    write_text(path, json.dumps(report.to_json(), ensure_ascii=False, indent=1) + "\n")
    return path


def alignment_path(recipe: Recipe) -> Path:
    """The file of a translator's scores, named by a digest of what A depends on and of the gold pairs.

    The settings of beam search are not part of it: forced decoding does not use them.

    :raises MissingError: the translator's files do not exist.
    """
    translator = recipe.translator
    table = as_json(translator)
    settings = {key: table.get(key) for key in ("kind", "source", "layers", "precision")}
    gold = as_json(recipe.alignment) if recipe.alignment else None
    # The model digests of a plan do not depend on the corpus.
    models = make_plan(recipe, Corpus((), (), ())).translation.models
    return (
        cache_root()
        / recipe.name
        / "alignment"
        / f"{digest({**settings, 'model': models, 'gold': gold})[:14]}.json"
    )


def score_links(found: Iterable[Links], gold: Sequence[LinkedPair]) -> AlignmentScore:
    """Count links over all pairs.

    :raises ValueError: the two differ in their number of pairs.
    """
    rows = [
        (len(links), len(pair.sure), len(links & pair.sure), len(links & pair.possible))
        for links, pair in zip(found, gold, strict=True)
    ]
    return AlignmentScore(*map(sum, zip(*rows, strict=True)))


def by_foreign(attention: Array) -> Links:
    """Link each foreign word to the English word with the most attention in its row. *Shape:* (m, n)"""
    return frozenset(enumerate(attention.argmax(1).tolist()))


def by_english(attention: Array) -> Links:
    """Link each English word to the foreign word with the most attention in its column. *Shape:* (m, n)"""
    return frozenset((j, i) for i, j in enumerate(attention.argmax(0).tolist()))


def intersection(attention: Array) -> Links:
    """The links of both :func:`by_foreign` and :func:`by_english`. *Shape:* (m, n)"""
    return by_foreign(attention) & by_english(attention)


def grow_diag(attention: Array) -> Links:
    """Symmetrise links by grow-diag (Koehn, Och and Marcu 2003), as Moses' ``symal`` does. *Shape:* (m, n)

    The links start as the intersection. A pass visits them in the order of the English, then of the foreign
    word, including those that it has just added. It adds each neighbour of a link that is in the union and
    has a word without a link so far. Passes repeat until one adds nothing. The order decides which links are
    added.
    """
    union, links = by_foreign(attention) | by_english(attention), set(intersection(attention))
    foreign, english = {j for j, _ in links}, {i for _, i in links}
    before = 0
    while len(links) > before:
        before = len(links)
        for i, j in itertools.product(range(attention.shape[1]), range(attention.shape[0])):
            if (j, i) not in links:
                continue
            for right, down in _NEIGHBOURS:
                near = (j + down, i + right)
                if near in union and not (near[0] in foreign and near[1] in english):
                    links.add(near)
                    foreign.add(near[0])
                    english.add(near[1])
    return frozenset(links)


# The methods that extract links from a matrix of attention, by name.
EXTRACTORS: dict[str, Callable[[Array], Links]] = {
    "foreign word": by_foreign,
    "English word": by_english,
    "intersection": intersection,
    "grow-diag": grow_diag,
}


# The method to show where only one is shown: it takes A by its rows, as T = A R does.
HEADLINE = "foreign word"


def _merge_characters(attention: Array, words: Tokens) -> Array:
    """Sum the rows of the characters of each word. *Shapes:* (c, n) -> (m, n)"""
    starts = np.cumsum([0, *map(len, words[:-1])])
    merged: Array = np.add.reduceat(attention, starts, axis=0)
    return merged
