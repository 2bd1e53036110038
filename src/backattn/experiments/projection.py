"""Zero-shot projection: the English tagger's entities, mapped to the source sentence by the attention A.

Its F1 is the lower bound for stage two, which has the same knowledge in T and trains on labels besides.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from backattn.common.atomic_files import make_own_folder
from backattn.common.errors import RecipeError, StaleError
from backattn.common.safe_text import listed, plain, printable
from backattn.corpus import Corpus, Sentence
from backattn.corpus.scoring import Counts, Score, score
from backattn.corpus.spans import Span, from_spans, spans
from backattn.corpus.tags import OUTSIDE, split_tag
from backattn.features.attention import transfer_attention
from backattn.features.plan import Stage, make_plan, require_same_translation
from backattn.recipe import Recipe, cache_root
from backattn.store.layout import decode_lines
from backattn.store.reader import StoreReader
from backattn.tagger.run import RunFolder

SPLITS = ("dev", "test")
# The longest gap inside a projected entity, in source tokens. Tokens of a gap have no vote, as "de" or a
# hyphen.
_MAX_GAP = 1

Tags = tuple[str, ...]


@dataclass(frozen=True)
class ProjectedSplit:
    """The score of one split, and how many entities were projected.

    :param english: number of entities in the translations, without those of types that the corpus lacks.
    :param placed: number of these that were projected; the others have no votes, or would overlap another.
    """

    score: Score
    english: int
    placed: int


@dataclass(frozen=True)
class Projection:
    """The result of ``backattn project``.

    :param folder: holds the predictions as column files.
    :param splits: the results on dev and test.
    """

    folder: Path
    splits: Mapping[str, ProjectedSplit]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without the counts of single sentences."""
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
        """A table for the terminal."""
        lines = [f"{'':<6}{'entities':<14}{'precision':>10}{'recall':>8}{'F1':>8}{'gold':>7}"]
        for name, split in self.splits.items():
            groups = {group: split.score.group(group) for group in split.score.groups}
            counted = {"all": split.score.overall, **groups, **split.score.types}
            lines += [_line(name, kind, counts) for kind, counts in counted.items()]
        for name, split in self.splits.items():
            lines.append(f"{name}: {split.english} entities in the translations, {split.placed} placed")
        return "\n".join([*lines, f"{printable(str(self.folder))}: the predictions"])


def project(recipe: Recipe, corpus: Corpus) -> Projection:
    """Project the English tags in the transfer store of a corpus, score them, and write the predictions.

    A is that of eq. 5 as the ``[transfer]`` table configures it, so that ``transfer.attention = "diagonal"``
    gives the baseline.

    :raises StaleError: a store is missing, or lacks a sentence of dev or test.
    :raises StoreError: a store is corrupt.
    :raises RecipeError: the English tagger finds an entity type that the corpus lacks.
    """
    plan = make_plan(recipe, corpus)
    wanted = [sentence for split in SPLITS for sentence in getattr(corpus, split)]
    translations, transfers = _store(recipe, plan.translation, wanted), _store(recipe, plan.transfer, wanted)
    types = _TypeMapping.of(recipe, corpus)
    folder = cache_root() / recipe.name / "projection" / plan.transfer.path.stem
    about = {"projected": recipe.transfer.attention, "transfer": plan.transfer.recipe_id[:14]}

    # The votes are the columns' maxima: normalising the rows would move them.
    attention_of = transfer_attention(structs.replace(recipe.transfer, normalise="none"))

    def read(sentence: Sentence) -> tuple[NDArray[np.float32], list[Span]]:
        """A and the entities of the translation."""
        tags = decode_lines(transfers[sentence.key]["english_tags"])
        found = types.apply(spans(tags))
        if not found:
            return np.zeros((len(sentence), len(tags)), np.float32), found
        entry = translations[sentence.key]
        english = decode_lines(entry["english"])
        require_same_translation(plan, sentence, english, tags)
        whole = entry["attention"].reshape(len(sentence) + 1, len(english) + 1).astype(np.float32)
        return attention_of(sentence.tokens, english, whole), found

    splits = {}
    for name in SPLITS:
        gold: tuple[Sentence, ...] = getattr(corpus, name)
        readings = [read(sentence) for sentence in gold]
        placed = [project_spans(*reading) for reading in readings]
        tags = [from_spans(found, len(sentence)) for found, sentence in zip(placed, gold, strict=True)]
        scored = score([s.tags for s in gold], tags, recipe.corpus.groups, {**about, "split": name})
        splits[name] = ProjectedSplit(scored, sum(len(e) for _, e in readings), sum(map(len, placed)))
        make_own_folder(folder.parent)
        make_own_folder(folder)
        RunFolder(folder).write_predictions(name, gold, tags)
    return Projection(folder, splits)


def project_spans(attention: NDArray[np.float32], entities: Sequence[Span]) -> list[Span]:
    """Project the entities of a translation to source spans.

    Each English token of an entity votes for the source token with the most attention in its column of A, or
    for all with the most (the characters of a word, with the A of a dictionary); a column of zeros has no
    vote. Columns vote because a column of A is a distribution over the source (eq. 2) and a row is not: the
    rows of function words are arbitrary. The votes are grouped, across gaps of one token at most, and the
    largest group is the entity. On Spanish dev this was better than voting by rows (F1 0.40 against 0.37) and
    than thresholds on shares of a row's mass. Of two entities that would overlap, the first in the
    translation is kept.

    :param attention: A. *Shape:* (m, n)
    :param entities: spans of the n English tokens.
    :return: spans of the m source tokens, in order; they do not overlap.
    """
    found: list[Span] = []
    for entity in entities:
        columns = attention[:, entity.start : entity.end]
        votes = np.nonzero((columns == columns.max(0)) & columns.any(0))[0].tolist()
        if not votes:
            continue
        start, end = _largest_group(votes)
        if all(end <= other.start or other.end <= start for other in found):
            found.append(Span(start, end, entity.type))
    return sorted(found)


def _largest_group(votes: Iterable[int]) -> tuple[int, int]:
    """Start and end of the group with the most votes; of several such, the first."""
    groups: list[list[int]] = []
    for position in sorted(votes):
        if not groups or position - groups[-1][-1] > 1 + _MAX_GAP:
            groups.append([])
        groups[-1].append(position)
    largest = max(groups, key=len)
    return largest[0], largest[-1] + 1


@dataclass(frozen=True)
class _TypeMapping:
    """Mapping of the English tagger's entity types to those of the corpus.

    :param name: of the recipe, for messages.
    :param table: ``projection.types`` of the recipe; a type that it does not list keeps its name.
    :param known: the types of the corpus' gold entities.
    """

    name: str
    table: Mapping[str, str]
    known: frozenset[str]

    @classmethod
    def of(cls, recipe: Recipe, corpus: Corpus) -> "_TypeMapping":
        tags = {tag for _, split in corpus.splits() for sentence in split for tag in sentence.tags}
        known = {split_tag(tag)[1] for tag in tags - {OUTSIDE}}
        return cls(recipe.name, recipe.projection.types, frozenset(known))

    def apply(self, entities: Sequence[Span]) -> list[Span]:
        """Entities with the types of the corpus, without those of types that it lacks.

        :raises RecipeError: a type is mapped to none of the corpus, or keeps a name that the corpus lacks.
        """
        named = [(entity, self._name(entity.type)) for entity in entities]
        return [Span(entity.start, entity.end, kind) for entity, kind in named if kind]

    def _name(self, english: str) -> str:
        kind = self.table.get(english, english)
        if kind and kind not in self.known:
            becomes = (
                f"would be {plain(kind)}" if english in self.table else "keeps its name, as it is not listed"
            )
            raise RecipeError(
                f"{self.name}: projection.types: the English tagger finds {plain(english)}, which {becomes}; "
                f'expected one of the corpus\' types for it ({listed(sorted(self.known))}), or "" to leave '
                "it out"
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
