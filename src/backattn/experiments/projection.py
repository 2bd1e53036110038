"""Zero-shot: the English tagger's entities, brought home through A with no training at all.

What this reaches is the floor for stage two: T carries the same knowledge, and learns from labels besides.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from backattn.common.errors import RecipeError, StaleError
from backattn.common.safe_text import listed, plain, printable
from backattn.corpus import Corpus, Sentence
from backattn.corpus.scoring import Counts, Score, score
from backattn.corpus.spans import Span, from_spans, spans
from backattn.features.attention import transfer_attention
from backattn.features.plan import Stage, make_plan, require_same_translation
from backattn.recipe import Recipe, cache_root
from backattn.store.layout import decode_lines
from backattn.store.reader import StoreReader
from backattn.tagger.run import RunFolder

SPLITS = ("dev", "test")
# Source tokens in a row, inside an entity, that none of its English tokens looked at most: "de", a hyphen.
_BRIDGED = 1

Tags = tuple[str, ...]


@dataclass(frozen=True)
class ProjectedSplit:
    """What became of the entities in the translations of one split.

    :param english: entities of the types that the corpus has.
    :param placed: those that got a place; the others' was taken by one before them.
    """

    score: Score
    english: int
    placed: int


@dataclass(frozen=True)
class Projection:
    """What ``backattn project`` answers.

    :param folder: where the predictions lie, as column files.
    :param splits: dev and test.
    """

    folder: Path
    splits: Mapping[str, ProjectedSplit]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the counts of single sentences stay with the predictions."""
        left_out = {"sentences", "group_sentences"}
        splits = {
            name: {
                **{key: value for key, value in split.score.to_json().items() if key not in left_out},
                "english_entities": split.english,
                "placed": split.placed,
            }
            for name, split in self.splits.items()
        }
        return {"folder": str(self.folder), **splits}

    def to_text(self) -> str:
        """A table for a terminal."""
        lines = [f"{'':<6}{'entities':<14}{'precision':>10}{'recall':>8}{'F1':>8}{'gold':>7}"]
        for name, split in self.splits.items():
            groups = {group: split.score.group(group) for group in split.score.groups}
            counted = {"all": split.score.overall, **groups, **split.score.types}
            lines += [_line(name, kind, counts) for kind, counts in counted.items()]
        for name, split in self.splits.items():
            lines.append(f"{name}: {split.english} entities in the translations, {split.placed} placed")
        return "\n".join([*lines, f"{printable(str(self.folder))}: the predictions"])


def project(recipe: Recipe, corpus: Corpus) -> Projection:
    """Project the English tags in the transfer store of a corpus, score them, and write them down.

    A is the one of eq. 5, with all that the ``[transfer]`` table says, so that ``transfer.attention =
    "diagonal"`` gives the baseline.

    :raises StaleError: a store is missing, or lacks a sentence of dev or test.
    :raises StoreError: a store is corrupt.
    :raises RecipeError: the English tagger finds a type that the corpus does not know.
    """
    plan = make_plan(recipe, corpus)
    wanted = [sentence for split in SPLITS for sentence in getattr(corpus, split)]
    translations, transfers = _store(recipe, plan.translation, wanted), _store(recipe, plan.transfer, wanted)
    types = _Types.of(recipe, corpus)
    folder = cache_root() / recipe.name / "projection" / plan.transfer.path.stem
    about = {"projected": recipe.transfer.attention, "transfer": plan.transfer.recipe_id[:14]}

    # Columns of A vote: a row that was made to sum to 1 would have changed what each of them looked at most.
    attend = transfer_attention(structs.replace(recipe.transfer, normalise="none"))

    def read(sentence: Sentence) -> tuple[NDArray[np.float32], list[Span]]:
        """A, and the entities of the translation."""
        tags = decode_lines(transfers[sentence.key]["english_tags"])
        found = types.renamed(spans(tags))
        if not found:
            return np.zeros((len(sentence), len(tags)), np.float32), found
        entry = translations[sentence.key]
        english = decode_lines(entry["english"])
        require_same_translation(plan, sentence, english, tags)
        whole = entry["attention"].reshape(len(sentence) + 1, len(english) + 1).astype(np.float32)
        return attend(sentence.tokens, english, whole), found

    splits = {}
    for name in SPLITS:
        gold: tuple[Sentence, ...] = getattr(corpus, name)
        readings = [read(sentence) for sentence in gold]
        placed = [project_spans(*reading) for reading in readings]
        tags = [from_spans(found, len(sentence)) for found, sentence in zip(placed, gold, strict=True)]
        scored = score([s.tags for s in gold], tags, recipe.corpus.groups, {**about, "split": name})
        splits[name] = ProjectedSplit(scored, sum(len(e) for _, e in readings), sum(map(len, placed)))
        folder.mkdir(parents=True, exist_ok=True)
        RunFolder(folder).write_predictions(name, gold, tags)
    return Projection(folder, splits)


def project_spans(attention: NDArray[np.float32], entities: Sequence[Span]) -> list[Span]:
    """The source tokens that each English entity came from.

    Each of its tokens votes for the source token that it looked at most, or for those (the characters of a
    word, under a dictionary's A); one that looked nowhere has no vote. A column of A is a distribution over
    the source (eq. 2), a row is none, and rows of function words look wherever they like. The stretch with
    the most votes, where a gap of one token is bridged, is the entity; votes further off are strays. On
    Spanish dev this beat the rule by rows (F1 0.40 against 0.37) and those by shares of a row's mass. Where
    two entities would overlap, the first in the translation stays.

    :param attention: A. *Shape:* (m, n)
    :param entities: spans of the n English tokens.
    :return: spans of the m source tokens, in order; they do not overlap.
    """
    found: list[Span] = []
    for entity in entities:
        looked = attention[:, entity.start : entity.end]
        votes = np.nonzero((looked == looked.max(0)) & looked.any(0))[0].tolist()
        if not votes:
            continue
        start, end = _longest_stretch(votes)
        if all(end <= other.start or other.end <= start for other in found):
            found.append(Span(start, end, entity.type))
    return sorted(found)


def _longest_stretch(votes: Iterable[int]) -> tuple[int, int]:
    """Of the stretch that holds the most votes (of several such, the first) its first place, and its end."""
    stretches: list[list[int]] = []
    for place in sorted(votes):
        if not stretches or place - stretches[-1][-1] > 1 + _BRIDGED:
            stretches.append([])
        stretches[-1].append(place)
    longest = max(stretches, key=len)
    return longest[0], longest[-1] + 1


@dataclass(frozen=True)
class _Types:
    """From the English tagger's types to the corpus'.

    :param table: of the recipe; empty where they are the same.
    :param known: the types of the corpus' gold entities.
    """

    name: str
    table: Mapping[str, str]
    known: frozenset[str]

    @classmethod
    def of(cls, recipe: Recipe, corpus: Corpus) -> "_Types":
        known = {tag[2:] for _, split in corpus.splits() for s in split for tag in set(s.tags) if tag != "O"}
        return cls(recipe.name, recipe.projection.types, frozenset(known))

    def renamed(self, entities: Sequence[Span]) -> list[Span]:
        """Entities by the names of the corpus, without those that it does not have.

        :raises RecipeError: nothing says what a type is called there.
        """
        named = [(entity, self._name(entity.type)) for entity in entities]
        return [Span(entity.start, entity.end, kind) for entity, kind in named if kind]

    def _name(self, english: str) -> str:
        kind = self.table.get(english) if self.table else english
        if kind is None or (kind and kind not in self.known):
            raise RecipeError(
                f"{self.name}: projection.types: the English tagger finds {plain(english)}, which "
                f"{'it does not list' if kind is None else f'would be {plain(kind)}'}; expected one of the "
                f'corpus\' types for it ({listed(sorted(self.known))}), or "" to leave it out'
            )
        return kind


def _store(recipe: Recipe, stage: Stage, wanted: Iterable[Sentence]) -> StoreReader:
    store = stage.open()
    if store is None or not all(sentence.key in store for sentence in wanted):
        raise StaleError(
            f"{stage.path}: missing, or without some sentences of dev and test; run `backattn features "
            f"{recipe.name}` (with the same --set), then project"
        )
    store.verify()
    return store


def _line(split: str, kind: str, counts: Counts) -> str:
    measures = f"{counts.precision:>10.3f}{counts.recall:>8.3f}{counts.f1:>8.3f}"
    return f"{split:<6}{printable(kind):<14}{measures}{counts.support:>7}"
