"""``backattn inspect``: show one sentence with its translation, attention, and gold and predicted tags."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from backattn.common.atomic_files import write_text
from backattn.common.errors import CorpusError, MissingError, ModelError, StaleError
from backattn.common.safe_text import printable
from backattn.corpus import SPLITS, Corpus, Sentence
from backattn.features.plan import Plan, Stage, make_plan, require_same_translation
from backattn.recipe import Recipe, TransferRecipe, as_json
from backattn.report.markup import render
from backattn.report.plots import Label, heat_map
from backattn.report.terminal_text import bracketed, pad, spans, width
from backattn.store.layout import decode_lines
from backattn.store.reader import StoreReader
from backattn.tagger.run import read_run

END = "</s>"
_SHOWN = 3  # English tokens that the text form shows for a source token
_PREDICTED = ("test", "dev")  # splits whose predictions a run keeps


@dataclass(frozen=True, eq=False)
class Inspection:
    """One sentence: source, translation, A, English tags, gold and predicted tags.

    :param places: positions in the corpus, as ``test:12``; may be empty.
    :param gap: printed between two source tokens; empty for Chinese.
    :param attention: A with the end-of-sentence row and column last. *Shape:* (m + 1, n + 1)
    :param transfer: how the recipe computes the A of eq. 5 from it, or what replaces it.
    :param predicted: the tags of a run; None without a run, or if it does not predict this split.
    :param remarks: notes for the reader: segments, an empty translation, a missing prediction.
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
        """Name of its page: depends on the sentence, not on the run."""
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
        """Format for a terminal: sentences with entities, then the attention to each source token."""
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
        """Write a page: the sentence with its gold, predicted and English tags, then A as a heat map."""
        tokens, lines = self.sentence.tokens, []
        lines.append(("Gold", self.gap, spans(tokens, self.sentence.tags, self.gap)))
        if self.predicted is not None:
            lines.append((f"Predicted by {self.run}", self.gap, spans(tokens, self.predicted, self.gap)))
        english = "English translation, with the English tagger's tags"
        lines.append((english, " ", spans(self.english, self.english_tags)))
        return render(
            "sentence.html.j2",
            title=f"{self.lang}: {self.gap.join(tokens)}",
            heading=self._heading(),
            remarks=self.remarks,
            lines=lines,
            end=END,
            transfer=self._transferred(),
            attention=self._map(),
        )

    def _heading(self) -> str:
        where = ", ".join(self.places) or self.sentence.key.hex()[:8]
        return f"{self.lang} {where}: {len(self.sentence)} tokens, {len(self.english)} in English"

    def _transferred(self) -> str:
        """Describe the transfer settings behind T in one sentence."""
        made = self.transfer
        states = f"states = {made.states}{', with those of the source' if made.source_states else ''}"
        if made.attention == "translator":
            return f"T was made with this A, eos = {made.eos}, normalise = {made.normalise}, {states}."
        return (
            f"T was not made with this A: transfer.attention = {made.attention} replaced it, "
            f"normalise = {made.normalise}, {states}; that has no end of the sentence, so eos was "
            "not applied."
        )

    def _looked_at(self, row: int) -> str:
        weights = self.attention[row, :-1]
        best = np.argsort(-weights, kind="stable")[:_SHOWN]
        return ", ".join(f"{self.english[j]} {weights[j]:.2f}" for j in best)

    def _map(self) -> Markup:
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
    """Result of ``backattn inspect``: the sentences and their pages, in the order of the arguments."""

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


def inspect(
    recipe: Recipe, corpus: Corpus, queries: Sequence[str], run: Path | None, cache: Path
) -> Inspected:
    """Find sentences, and write a page of each to ``cache/<lang>/report/``.

    :param queries: sentences, each as ``SPLIT:NUMBER`` (from 1), or as its exact tokens with spaces between.
    :param run: folder of a finished run whose predictions are shown, or None.
    :raises CorpusError: the corpus has no such sentence.
    :raises StaleError: a store lacks the sentence.
    :raises MissingError, ModelError: the run has no predictions, or they are damaged.
    """
    found = [find_sentence(recipe, corpus, text) for text in queries]
    plan = make_plan(recipe, corpus)
    inspections = tuple(
        inspect_sentence(recipe, sentence, plan, run, places=_places(corpus, sentence)) for sentence in found
    )
    pages = tuple(cache / recipe.name / "report" / inspection.file_name for inspection in inspections)
    for inspection, path in zip(inspections, pages, strict=True):
        write_text(path, inspection.to_html())
    return Inspected(inspections, pages)


def find_sentence(recipe: Recipe, corpus: Corpus, query: str) -> Sentence:
    """Find the sentence ``SPLIT:NUMBER``, or the first one with these tokens.

    :param query: tokens with spaces between; Chinese characters with or without.
    :raises CorpusError: the corpus has no such sentence.
    """
    splits: dict[str, tuple[Sentence, ...]] = dict(corpus.splits())
    name, colon, number = query.partition(":")
    if colon and name in SPLITS and number.isdecimal() and len(number) < 19:
        if 1 <= int(number) <= len(splits[name]):
            return splits[name][int(number) - 1]
        raise CorpusError(f"{query}: {name} of {recipe.name} has sentences 1 to {len(splits[name])}")
    characters = recipe.corpus.unit == "character"
    tokens = tuple("".join(query.split())) if characters else tuple(query.split())
    for sentence in (s for split in splits.values() for s in split):
        if sentence.tokens == tokens:
            return sentence
    raise CorpusError(
        f"{query!r}: no sentence of {recipe.name}; expected SPLIT:NUMBER, as in test:12, or the exact "
        "tokens of a sentence with spaces between; `backattn tag` reads new text"
    )


def inspect_sentence(
    recipe: Recipe, sentence: Sentence, plan: Plan, run: Path | None, *, places: Sequence[str] = ()
) -> Inspection:
    """Collect one sentence from both stores, the corpus and a run.

    :param run: folder of a finished run, or None.
    :param places: positions of the sentence in the corpus, for the heading.
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
    """Read the tags that a run predicted for these tokens from its column files; None if it did not."""
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
    """Write the tags beside a token; O only if the prediction differs."""
    if gold == predicted:
        return () if gold == "O" else ((gold, "tag"),)
    return ((gold, "tag"), (f"≠ {predicted}", "wrong"))
