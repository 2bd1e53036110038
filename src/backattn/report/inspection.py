"""``backattn inspect``: one sentence on its way through both stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backattn.common.atomic_files import write_text
from backattn.common.errors import CorpusError, MissingError, ModelError, StaleError
from backattn.common.safe_text import printable
from backattn.corpus import SPLITS, Corpus, Sentence
from backattn.features.plan import Plan, Stage, make_plan, require_same_translation
from backattn.recipe import Recipe, TransferRecipe, as_json
from backattn.report.heatmap import Label, heat_map
from backattn.report.markup import document, element, text
from backattn.report.terminal_text import bracketed, entities, pad, width
from backattn.store.layout import decode_lines
from backattn.store.reader import StoreReader
from backattn.tagger.run import read_run

END = "</s>"
_SHOWN = 3  # English tokens that the text form quotes for a source token
_PREDICTED = ("test", "dev")  # splits whose predictions a run keeps


@dataclass(frozen=True, eq=False)
class Inspection:
    """One sentence: source, translation, A, English tags, gold and predicted tags.

    :param places: where the corpus has it, as ``test:12``; may be empty.
    :param gap: what stands between two source tokens in print; nothing for Chinese.
    :param attention: A with the end-of-sentence row and column last. *Shape:* (m + 1, n + 1)
    :param transfer: how the recipe makes the A of eq. 5 of it, or what it puts in its place.
    :param predicted: the tags of a run; None when no run was given, or it predicts another split.
    :param remarks: what a reader should know: segments, an empty translation, a missing prediction.
    """

    lang: str
    sentence: Sentence
    places: tuple[str, ...]
    gap: str
    english: tuple[str, ...]
    english_tags: tuple[str, ...]
    attention: NDArray[np.float32]
    transfer: TransferRecipe
    run: str
    predicted: tuple[str, ...] | None
    remarks: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """Name of its page; the run is not in it, the sentence is."""
        return f"sentence-{self.sentence.key.hex()[:8]}.html"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "lang": self.lang,
            "key": self.sentence.key.hex(),
            "places": list(self.places),
            "tokens": list(self.sentence.tokens),
            "gold": list(self.sentence.tags),
            "predicted": None if self.predicted is None else list(self.predicted),
            "run": self.run,
            "english": list(self.english),
            "english_tags": list(self.english_tags),
            "transfer": as_json(self.transfer),
            "attention": [[round(float(value), 4) for value in row] for row in self.attention],
            "remarks": list(self.remarks),
        }

    def to_text(self) -> str:
        """For a terminal: the lines with their entities, then where each source token is looked at."""
        tokens = self.sentence.tokens
        lines = [self._heading(), f"gold       {bracketed(tokens, self.sentence.tags, self.gap)}"]
        if self.predicted is not None:
            lines.append(f"predicted  {bracketed(tokens, self.predicted, self.gap)}")
        lines.append(f"English    {bracketed(self.english, self.english_tags) or '(nothing)'}")
        lines += [printable(f"note       {remark}") for remark in (*self.remarks, self._transferred())]
        predicted = self.predicted or ("",) * len(tokens)
        rows = [("token", "gold", "predicted" if self.predicted else "", "A: English tokens of most weight")]
        rows += [
            (token, tag, guess, self._looked_at(i))
            for i, (token, tag, guess) in enumerate(zip(tokens, self.sentence.tags, predicted, strict=True))
        ]
        columns = [max(width(row[column]) for row in rows) for column in range(3)]
        for row in rows:
            cells = [pad(cell, size) for cell, size in zip(row, columns, strict=False) if size]
            lines.append("  ".join([*cells, row[3]]).rstrip())
        return "\n".join(lines)

    def to_html(self) -> str:
        """A self-contained page: the sentence in each of its forms, then A as a heat map."""
        tokens, parts = self.sentence.tokens, [element("h1", text(self._heading()))]
        parts += [element("p", text(remark), {"class": "soft"}) for remark in self.remarks]
        shown = [("Gold", _marked(tokens, self.sentence.tags, self.gap))]
        if self.predicted is not None:
            shown.append((f"Predicted by {self.run}", _marked(tokens, self.predicted, self.gap)))
        english = _marked(self.english, self.english_tags, " ")
        shown.append(("English translation, with the English tagger's tags", english))
        for name, marked in shown:
            parts += [element("h3", text(name)), element("p", marked, {"class": "tokens"})]
        parts.append(element("h3", "Attention A"))
        told = (
            "Rows are source tokens, columns English tokens; a column is the distribution of an English "
            f"token over the source (eq. 2). The end of the sentence, {END}, stands apart. "
            f"{self._transferred()} A cell's title is its value."
        )
        parts.append(element("p", text(told), {"class": "soft"}))
        parts.append(element("div", self._map(), {"class": "scroll"}))
        return document(f"{self.lang}: {self.gap.join(tokens)}", "\n".join(parts))

    def _heading(self) -> str:
        where = ", ".join(self.places) or self.sentence.key.hex()[:8]
        return f"{self.lang} {where}: {len(self.sentence)} tokens, {len(self.english)} in English"

    def _transferred(self) -> str:
        """What T was made with, in a sentence."""
        made = self.transfer
        states = f"states = {made.states}{', and those of the source beside' if made.source_states else ''}"
        if made.attention == "translator":
            return f"T was made with this A, eos = {made.eos}, normalise = {made.normalise}, {states}."
        return (
            f"T was not made with this A: transfer.attention = {made.attention} stood in its place, "
            f"normalise = {made.normalise}, {states}; it knows no end of the sentence, so eos "
            "was not applied."
        )

    def _looked_at(self, row: int) -> str:
        weights = self.attention[row, :-1]
        best = np.argsort(-weights, kind="stable")[:_SHOWN]
        return ", ".join(f"{self.english[j]} {weights[j]:.2f}" for j in best)

    def _map(self) -> str:
        gold, predicted = self.sentence.tags, self.predicted or self.sentence.tags
        rows = [
            Label(token, _notes(tag, guess))
            for token, tag, guess in zip(self.sentence.tokens, gold, predicted, strict=True)
        ]
        columns = [
            Label(token, _notes(tag, tag)) for token, tag in zip(self.english, self.english_tags, strict=True)
        ]
        end = Label(END)
        return heat_map([*rows, end], [*columns, end], self.attention, "Attention A, source by English")


@dataclass(frozen=True, eq=False)
class Inspected:
    """What ``backattn inspect`` answers: the sentences and their pages, in the order asked."""

    inspections: tuple[Inspection, ...]
    pages: tuple[Path, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Plain JSON values."""
        pairs = zip(self.inspections, self.pages, strict=True)
        return [{**inspection.to_json(), "page": str(path)} for inspection, path in pairs]

    def to_text(self) -> str:
        """The text form of each sentence, with the path of its page."""
        pairs = zip(self.inspections, self.pages, strict=True)
        return "\n\n".join(f"{inspection.to_text()}\npage       {path}" for inspection, path in pairs)


def inspect(recipe: Recipe, corpus: Corpus, asked: Sequence[str], run: Path | None, cache: Path) -> Inspected:
    """Find the sentences, and write the page of each to ``cache/<lang>/report/``.

    :param asked: each as ``SPLIT:NUMBER`` (from 1), or as its exact tokens with spaces between.
    :param run: folder of a finished run whose predictions are shown; None for none.
    :raises CorpusError: the corpus has no such sentence.
    :raises StaleError: a store lacks the sentence.
    :raises MissingError, ModelError: the run has no predictions, or they are damaged.
    """
    found = [find_sentence(recipe, corpus, text) for text in asked]
    plan = make_plan(recipe, corpus)
    inspections = tuple(
        inspect_sentence(recipe, sentence, plan, run, places=_places(corpus, sentence)) for sentence in found
    )
    pages = tuple(cache / recipe.name / "report" / inspection.file_name for inspection in inspections)
    for inspection, path in zip(inspections, pages, strict=True):
        write_text(path, inspection.to_html())
    return Inspected(inspections, pages)


def find_sentence(recipe: Recipe, corpus: Corpus, asked: str) -> Sentence:
    """The sentence ``SPLIT:NUMBER``, or the first one of these tokens.

    :param asked: tokens with spaces between; Chinese characters with or without.
    :raises CorpusError: there is none; says what was expected.
    """
    splits: dict[str, tuple[Sentence, ...]] = dict(corpus.splits())
    name, colon, number = asked.partition(":")
    if colon and name in SPLITS and number.isdecimal() and len(number) < 19:
        if 1 <= int(number) <= len(splits[name]):
            return splits[name][int(number) - 1]
        raise CorpusError(f"{asked}: {name} of {recipe.name} has sentences 1 to {len(splits[name])}")
    characters = recipe.corpus.unit == "character"
    tokens = tuple("".join(asked.split())) if characters else tuple(asked.split())
    for sentence in (s for split in splits.values() for s in split):
        if sentence.tokens == tokens:
            return sentence
    raise CorpusError(
        f"{asked!r}: no sentence of {recipe.name}; expected SPLIT:NUMBER, as in test:12, or the exact "
        "tokens of a sentence with spaces between; `backattn tag` reads new text"
    )


def inspect_sentence(
    recipe: Recipe, sentence: Sentence, plan: Plan, run: Path | None, *, places: Sequence[str] = ()
) -> Inspection:
    """Put together what both stores, the corpus and a run have of one sentence.

    :param run: folder of a finished run; None for none.
    :param places: where the corpus has the sentence, for the heading.
    :raises StaleError: a store is missing or lacks the sentence.
    :raises StoreError: a store is damaged.
    :raises MissingError, ModelError: the run has no predictions, or they are damaged.
    """
    translation = _entry(recipe, plan.translation, sentence)
    transfer = _entry(recipe, plan.transfer, sentence)
    english, english_tags = decode_lines(translation["english"]), decode_lines(transfer["english_tags"])
    require_same_translation(plan, sentence, english, english_tags)
    predicted = None if run is None else _prediction(run, sentence.tokens)
    segments = int(translation["segments"][0])
    remarks = []
    if not english:
        remarks.append("The translation is empty, so T = 0.")
    if segments > 1:
        remarks.append(f"Translated in {segments} segments, so A is block-diagonal.")
    if run is not None and predicted is None:
        remarks.append(f"{run.name} has no prediction for it: a run predicts dev and test.")
    if run is not None and read_run(run).store not in (None, plan.transfer.recipe_id):
        remarks.append(f"{run.name} has read another T than the one shown here, as its recipe.json says.")
    return Inspection(
        lang=recipe.name,
        sentence=sentence,
        places=tuple(places),
        gap=" " if recipe.corpus.unit == "word" else "",
        english=english,
        english_tags=english_tags,
        # shape: (m + 1, n + 1)
        attention=translation["attention"].reshape(len(sentence) + 1, len(english) + 1).astype(np.float32),
        transfer=recipe.transfer,
        run="" if run is None else run.name,
        predicted=predicted,
        remarks=tuple(remarks),
    )


def _entry(recipe: Recipe, stage: Stage, sentence: Sentence) -> dict[str, NDArray[Any]]:
    store: StoreReader | None = stage.open()
    if store is None or sentence.key not in store:
        raise StaleError(
            f"{stage.path}: no {stage.kind} of {' '.join(sentence.tokens)!r}; "
            f"run `backattn features {recipe.name}` (with the same --set)"
        )
    return dict(store[sentence.key])


def _prediction(run: Path, tokens: tuple[str, ...]) -> tuple[str, ...] | None:
    """The run's tags for these tokens, from its column files; None when it predicted no such sentence."""
    if not (run / "run.json").is_file():
        raise MissingError(f"{run}: no finished run; `backattn train LANG` makes one below cache/LANG/runs")
    for split in _PREDICTED:
        path = run / f"predictions.{split}.tsv"
        try:
            blocks = path.read_text("utf-8").split("\n\n")
        except FileNotFoundError:
            raise MissingError(f"{path}: missing; remove the folder and train again") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: not readable ({error}); remove the folder and train again") from None
        for block in blocks:
            rows = [line.split("\t") for line in block.split("\n") if line]
            if any(len(row) != 3 for row in rows):
                raise ModelError(f"{path}: expected token, gold and predicted tag; train again")
            if tuple(row[0] for row in rows) == tokens:
                return tuple(row[2] for row in rows)
    return None


def _places(corpus: Corpus, sentence: Sentence) -> tuple[str, ...]:
    return tuple(
        f"{name}:{number}"
        for name, sentences in corpus.splits()
        for number, other in enumerate(sentences, 1)
        if other.tokens == sentence.tokens
    )


def _notes(gold: str, predicted: str) -> tuple[tuple[str, str], ...]:
    """The tags beside a token: O is not worth a word, unless the run saw it otherwise."""
    if gold == predicted:
        return () if gold == "O" else ((gold, "tag"),)
    return ((gold, "tag"), (f"≠ {predicted}", "wrong"))


def _marked(tokens: Sequence[str], tags: Sequence[str], gap: str) -> str:
    parts, position = [], 0
    for first, end, kind in entities(tags):
        parts += [text(token) for token in tokens[position:first]]
        inside = text(gap.join(tokens[first:end])) + element("small", text(kind))
        parts.append(element("span", inside, {"class": "entity"}))
        position = end
    return gap.join([*parts, *map(text, tokens[position:])]) or text("(nothing)")
