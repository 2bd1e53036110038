"""Collect what a page shows of a sentence: translation, attention, English tags, gold and predicted tags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backattn.common.errors import CorpusError, StaleError
from backattn.common.safe_text import printable
from backattn.corpus import SPLITS, Corpus, Sentence
from backattn.features.plan import Plan, Stage, require_same_translation
from backattn.recipe import Recipe, TransferRecipe, as_json
from backattn.report.predictions import PREDICTED, read_predictions
from backattn.report.runs import RunRecord
from backattn.report.terminal_text import bracketed, pad, width
from backattn.store.layout import decode_lines
from backattn.store.reader import StoreReader

_SHOWN = 3  # English tokens that the text form shows for a source token


@dataclass(frozen=True)
class Prediction:
    """The tags that a run predicted for a sentence.

    :param run: name of its folder.
    :param model: its name in the paper's tables.
    """

    run: str
    model: str
    tags: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class RunPredictions:
    """The predictions of a run on dev and test, by tokens."""

    run: RunRecord
    tags: Mapping[tuple[str, ...], tuple[str, ...]]

    @classmethod
    def of(cls, run: RunRecord) -> "RunPredictions":
        """Read the predictions of a run.

        :raises MissingError, ModelError: the run has no predictions, or they are damaged.
        """
        rows = [row for split in reversed(PREDICTED) for row in read_predictions(run.folder, split)]
        return cls(run, {row.tokens: row.tags for row in rows})


@dataclass(frozen=True, eq=False)
class OpenStores:
    """The stores of translations and of T, opened once; None where the file does not exist."""

    plan: Plan
    translation: StoreReader | None
    transfer: StoreReader | None

    @classmethod
    def of(cls, plan: Plan) -> "OpenStores":
        """Open the stores of a plan.

        :raises StoreError: a store is damaged, or of another identity.
        """
        return cls(plan, plan.translation.open(), plan.transfer.open())


@dataclass(frozen=True, eq=False)
class Inspection:
    """One sentence: source, translation, A, English tags, gold and predicted tags.

    :param places: positions in the corpus, as ``test:12``; may be empty.
    :param gap: printed between two source tokens; empty for Chinese.
    :param attention: A with the end-of-sentence row and column last. *Shape:* (m + 1, n + 1)
    :param transfer: how the recipe computes the A of eq. 5 from it, or what replaces it.
    :param predictions: of each run that predicts this sentence; the base comes first.
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
    predictions: tuple[Prediction, ...]
    remarks: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """Name of its page: depends on the sentence, not on the run."""
        return f"sentence-{self.sentence.key.hex()[:8]}.html"

    @property
    def place(self) -> str:
        """Where it is in the corpus."""
        return ", ".join(self.places) or self.sentence.key.hex()[:8]

    @property
    def heading(self) -> str:
        """LANG, place and lengths."""
        return f"{self.lang} {self.place}: {len(self.sentence)} tokens, {len(self.english)} in English"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "lang": self.lang,
            "key": self.sentence.key.hex(),
            "places": list(self.places),
            "tokens": list(self.sentence.tokens),
            "gold": list(self.sentence.tags),
            "predictions": [
                {"run": one.run, "model": one.model, "tags": list(one.tags)} for one in self.predictions
            ],
            "english": list(self.english),
            "english_tags": list(self.english_tags),
            "transfer": as_json(self.transfer),
            "attention": [[round(float(value), 4) for value in row] for row in self.attention],
            "remarks": list(self.remarks),
        }

    def to_text(self) -> str:
        """Format for a terminal: sentences with entities, then the attention to each source token."""
        tokens = self.sentence.tokens
        texts = {"gold": bracketed(tokens, self.sentence.tags, self.gap)}
        texts |= {one.model: bracketed(tokens, one.tags, self.gap) for one in self.predictions}
        texts["English"] = bracketed(self.english, self.english_tags) or "(nothing)"
        notes = [("note", remark) for remark in (*self.remarks, self.transferred())]
        widest = max(map(width, texts))
        lines = [self.heading]
        lines += [f"{pad(name, widest)}  {printable(text)}" for name, text in (*texts.items(), *notes)]
        rows = [
            ("token", "gold", *(one.model for one in self.predictions), "A: English tokens of most weight")
        ]
        columns = [tokens, self.sentence.tags, *(one.tags for one in self.predictions)]
        rows += [(*cells, self._most_attended(i)) for i, cells in enumerate(zip(*columns, strict=True))]
        widths = [max(width(row[column]) for row in rows) for column in range(len(columns))]
        for row in rows:
            cells = [pad(cell, size) for cell, size in zip(row, widths, strict=False)]
            lines.append("  ".join([*cells, row[-1]]).rstrip())
        return "\n".join(lines)

    def transferred(self) -> str:
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

    def _most_attended(self, row: int) -> str:
        weights = self.attention[row, :-1]
        best = np.argsort(-weights, kind="stable")[:_SHOWN]
        return ", ".join(f"{self.english[j]} {weights[j]:.2f}" for j in best)


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
    recipe: Recipe,
    sentence: Sentence,
    stores: OpenStores,
    runs: Sequence[RunPredictions],
    *,
    places: Sequence[str] = (),
) -> Inspection:
    """Collect one sentence from both stores, the corpus and the runs.

    :param runs: the base comes first.
    :param places: positions of the sentence in the corpus, for the heading.
    :raises StaleError: a store is missing or lacks the sentence.
    :raises StoreError: a store is damaged.
    """
    plan = stores.plan
    translation = _entry(recipe, plan.translation, stores.translation, sentence)
    transfer = _entry(recipe, plan.transfer, stores.transfer, sentence)
    english, english_tags = decode_lines(translation["english"]), decode_lines(transfer["english_tags"])
    require_same_translation(plan, sentence, english, english_tags)
    segments = int(translation["segments"][0])
    predictions, remarks = [], []
    if not english:
        remarks.append("The translation is empty, so T = 0.")
    if segments > 1:
        remarks.append(f"Translated in {segments} segments, so A is block-diagonal.")
    for one in runs:
        name = one.run.folder.name
        if (tags := one.tags.get(sentence.tokens)) is None:
            remarks.append(f"{name} has no prediction for it: a run predicts dev and test.")
        else:
            predictions.append(Prediction(name, one.run.model, tags))
        if one.run.store not in (None, plan.transfer.recipe_id):
            remarks.append(f"{name} has read another T than the one shown here, as its recipe.json says.")
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
        predictions=tuple(predictions),
        remarks=tuple(remarks),
    )


def places_of(corpus: Corpus) -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """Tokens of each sentence -> its positions in the corpus, as ``test:12``."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, sentences in corpus.splits():
        for number, sentence in enumerate(sentences, 1):
            found.setdefault(sentence.tokens, []).append(f"{name}:{number}")
    return {tokens: tuple(places) for tokens, places in found.items()}


def _entry(
    recipe: Recipe, stage: Stage, store: StoreReader | None, sentence: Sentence
) -> dict[str, NDArray[Any]]:
    if store is None or sentence.key not in store:
        raise StaleError(
            f"{stage.path}: no {stage.kind} of {' '.join(sentence.tokens)!r}; "
            f"run `backattn features {recipe.name}` (with the same --set)"
        )
    return dict(store[sentence.key])
