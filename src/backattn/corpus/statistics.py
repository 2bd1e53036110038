"""Count a corpus as in the paper's Table 1, and show whether it was read as meant.

An example, the counts of numbers, of sentences without an entity, of comments and of sentences in two splits,
and the warnings of :mod:`~backattn.corpus.statistics_warnings` show the latter.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from backattn.common.safe_text import printable, shortened
from backattn.corpus import SPLITS, Corpus
from backattn.corpus.spans import spans
from backattn.corpus.statistics_warnings import corpus_warnings, has_entity, is_number
from backattn.corpus.tags import OUTSIDE, split_tag

_SHOWN_TOKENS = 40  # tokens of the example that are printed
_SHOWN_BEFORE = 10  # of these, the tokens before its first entity
_LONGEST_SHOWN = 40  # characters of a token


@dataclass(frozen=True)
class SplitStatistics:
    """Counts of one split.

    :param sentences, tokens: as in the paper's Table 1; document separators are not sentences.
    :param longest: number of tokens of the longest sentence.
    :param entities: type -> number of entities, sorted by type.
    :param tags: BIOES tag -> number of tokens, sorted by type, ``O`` first.
    :param documents: document separators (``-DOCSTART-``); Table 1 adds them to German's sentences.
    :param orphans: I- tags without an entity to continue, which were read as the beginning of one.
    :param comments: lines that were passed over as comments.
    :param numbers: tokens that are numbers; nearly all of them in a column of ids.
    :param without_entity: sentences without an entity.
    :param also_in: each other split -> sentences of this one that are in it too, by their tokens.
    :param no_tokens: kind of other lines that are no tokens (multiword ranges, empty nodes of CoNLL-U) ->
        their number.
    """

    sentences: int
    tokens: int
    longest: int
    entities: Mapping[str, int]
    tags: Mapping[str, int]
    documents: int
    orphans: int
    comments: int
    numbers: int
    without_entity: int
    also_in: Mapping[str, int]
    no_tokens: Mapping[str, int]


@dataclass(frozen=True)
class Example:
    """The first sentence of a split that has an entity, as it was read.

    :param sentence: its place in the split, from 1, as ``inspect`` takes it.
    """

    split: str
    sentence: int
    tokens: tuple[str, ...]
    tags: tuple[str, ...]

    def to_text(self) -> str:
        """One line for each token, with its tag; of a long sentence, the tokens around its first entity."""
        first = next(place for place, tag in enumerate(self.tags) if tag != OUTSIDE)
        begin = max(0, min(first - _SHOWN_BEFORE, len(self.tokens) - _SHOWN_TOKENS))
        rows = [
            (printable(shortened(token, _LONGEST_SHOWN)), printable(tag))
            for token, tag in list(zip(self.tokens, self.tags, strict=True))[begin : begin + _SHOWN_TOKENS]
        ]
        width = max(len(token) for token, _ in rows)
        lines = [f"  {token:<{width}}  {tag}" for token, tag in rows]
        part = f", {len(rows)} of its {len(self.tokens):,} tokens" if len(rows) < len(self.tokens) else ""
        head = (
            f"First sentence with an entity ({self.split}:{self.sentence}{part}), tags in BIOES (S: a single "
            "token; B, I, E: begin, inside and end of a longer name):"
        )
        return "\n".join([head, *lines])


@dataclass(frozen=True)
class CorpusStatistics:
    """Counts of the three splits.

    :param splits: name of a split -> its counts, in the order train, dev, test.
    :param unique: number of distinct token sequences in all splits: the sentences that stage one translates.
    :param example: None where no sentence has an entity.
    :param warnings: likely mistakes, one line each.
    """

    splits: Mapping[str, SplitStatistics]
    unique: int
    example: Example | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """The counts as a text table with one column per split, the example, and the warnings."""
        rows = [("", list(self.splits)), *((name, list(map(str, cells))) for name, cells in self._rows())]
        first = max(len(name) for name, _ in rows)
        width = 2 + max(len(cell) for _, cells in rows for cell in cells)
        lines = [f"{name:<{first}}" + "".join(f"{cell:>{width}}" for cell in cells) for name, cells in rows]
        lines += [f"{self.unique} different sentences", ""]
        lines.append(self.example.to_text() if self.example else "No sentence has an entity.")
        lines += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _rows(self) -> Iterator[tuple[str, Sequence[int | str]]]:
        splits = list(self.splits.values())
        yield "sentences", [split.sentences for split in splits]
        if any(split.documents for split in splits):
            yield "document separators", [split.documents for split in splits]
            yield "both (as Table 1 counts)", [split.sentences + split.documents for split in splits]
        yield "tokens", [split.tokens for split in splits]
        yield "longest sentence", [split.longest for split in splits]
        yield "entities", [sum(split.entities.values()) for split in splits]
        for kind in sorted({kind for split in splits for kind in split.entities}):
            yield f"  {printable(kind)}", [split.entities.get(kind, 0) for split in splits]
        yield "different tags", [len(split.tags) for split in splits]
        for tag in sorted({tag for split in splits for tag in split.tags}, key=_order):
            yield f"  {printable(tag)}", [split.tags.get(tag, 0) for split in splits]
        for name in sorted({name for split in splits for name, found in split.no_tokens.items() if found}):
            yield name, [split.no_tokens.get(name, 0) for split in splits]
        if any(split.orphans for split in splits):
            yield "I- read as a beginning", [split.orphans for split in splits]
        yield "numbers", [_with_share(split.numbers, split.tokens) for split in splits]
        yield "without an entity", [_with_share(split.without_entity, split.sentences) for split in splits]
        if any(split.comments for split in splits):
            yield "comments passed over", [split.comments for split in splits]
        for other in self.splits:
            if any(split.also_in.get(other) for split in splits):
                cells = [_with_share(split.also_in.get(other, 0), split.sentences) for split in splits]
                yield f"sentences also in {other}", cells


def corpus_statistics(corpus: Corpus) -> CorpusStatistics:
    """Count a corpus."""
    return CorpusStatistics(
        splits={name: _count(corpus, name) for name in SPLITS},
        unique=len(corpus.unique),
        example=next(_examples(corpus), None),
        warnings=corpus_warnings(corpus),
    )


def _examples(corpus: Corpus) -> Iterator[Example]:
    for split, sentences in corpus.splits():
        for number, sentence in enumerate(sentences, 1):
            if has_entity(sentence):
                yield Example(split, number, sentence.tokens, sentence.tags)


def _count(corpus: Corpus, split: str) -> SplitStatistics:
    sentences = getattr(corpus, split)
    tags = Counter(tag for sentence in sentences for tag in sentence.tags)
    entities = Counter(span.type for sentence in sentences for span in spans(sentence.tags))
    keys = {name: {sentence.key for sentence in others} for name, others in corpus.splits() if name != split}
    return SplitStatistics(
        sentences=len(sentences),
        tokens=tags.total(),
        longest=max(map(len, sentences), default=0),
        entities={kind: entities[kind] for kind in sorted(entities)},
        tags={tag: tags[tag] for tag in sorted(tags, key=_order)},
        documents=corpus.documents.get(split, 0),
        orphans=corpus.orphans.get(split, 0),
        comments=corpus.comments.get(split, 0),
        numbers=sum(is_number(token) for sentence in sentences for token in sentence.tokens),
        without_entity=sum(not has_entity(sentence) for sentence in sentences),
        also_in={name: sum(sentence.key in known for sentence in sentences) for name, known in keys.items()},
        no_tokens=corpus.no_tokens.get(split, {}),
    )


def _with_share(number: int, whole: int) -> str:
    return f"{number} ({100 * number / whole:.1f} %)" if number else "0"


def _order(tag: str) -> tuple[str, int]:
    """Sort key of tags: by type, then in the order B, I, E, S; ``O`` first."""
    prefix, kind = split_tag(tag)
    return kind, "OBIES".find(prefix)
