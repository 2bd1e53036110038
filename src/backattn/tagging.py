"""New text through both stages: source tokens -> translation -> T, and frozen features -> tags."""

import sys
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Literal, TextIO, cast

from backattn.corpus import Corpus, Sentence
from backattn.corpus.formats import split_columns
from backattn.device import pick_device
from backattn.errors import CorpusError, MissingError, RecipeError, StaleError
from backattn.experiments import StoredVectors
from backattn.features.attention import transfer_attention
from backattn.features.build import (
    embedding_entries,
    transfer_entries,
    transfer_width,
    translation_entries,
)
from backattn.features.embeddings import Embedder
from backattn.features.plan import Stage, make_plan
from backattn.recipe import ColumnFormat, EmbeddingName, Recipe, Unit, from_json
from backattn.store.layout import Entry
from backattn.tagger.prediction import TaggerModel, load_run, predict
from backattn.tagger.run import RunFolder, read_json

Tokens = tuple[str, ...]
Form = Literal["lines", "columns"]


class TextTagger:
    """A finished run with the expensive models that it needs, loaded once.

    :param trust: open an English tagger that has no pinned digest.
    :raises MissingError: the run or a model is not there.
    """

    def __init__(self, run: Path, *, device: str = "auto", trust: bool = False) -> None:
        self._device = pick_device(device)
        self._model: TaggerModel = load_run(run, self._device)
        path = RunFolder(run).recipe
        self.recipe: Recipe = from_json(read_json(path), str(path))
        self._refuse_other_models(run)
        # A run that reads words alone needs none of stage one's packages.
        if self._model.needs_transfer:
            from backattn.features.pipeline import load_english_tagger, load_translator

            self._attend = transfer_attention(self.recipe.transfer)
            self._translator = load_translator(self.recipe, self._device)
            self._english = load_english_tagger(self.recipe, self._device, trust=trust)
        names = [name for name in self.recipe.tagger.embeddings if name in self._model.embeddings]
        self._embedders: dict[str, Embedder] = {}
        if names:
            from backattn.features.pipeline import load_embedder

            self._embedders = {n: load_embedder(self.recipe, n, self._device, trust) for n in names}

    def _refuse_other_models(self, run: Path) -> None:
        """What lies at the paths of the recipe must be what made the stores that the run has read.

        :raises RecipeError: nobody can make T for new text.
        :raises StaleError: a model is another one.
        """
        plan = make_plan(self.recipe, Corpus((), (), ()))  # a store's name asks for no corpus
        request = self._model.run.request
        read: dict[str, tuple[Stage, str]] = {}
        if self._model.needs_transfer:
            if self.recipe.transfer.attention == "links":
                raise RecipeError(
                    f"{run}: was trained on an aligner's links (transfer.attention), and nobody has linked "
                    "new text; tag with a run on the translator's own attention"
                )
            read["T"] = plan.transfer, request["transfer"]
        for name in self._model.embeddings:
            read[name] = plan.embeddings[cast(EmbeddingName, name)], request["embeddings"][name]
        for name, (stage, store) in read.items():
            if stage.recipe_id != store:
                raise StaleError(
                    f"{run}: has learnt from {name} of the store {store[:14]}; the models that its "
                    f"recipe.json names make {stage.recipe_id[:14]} now. Put back those that it was trained "
                    "with (below BACKATTN_CACHE), or train again"
                )

    def tag(self, sentences: Sequence[Tokens]) -> list[Tokens]:
        """The BIOES tags of sentences of at least one token, in the given order."""
        # Each is computed once, by the very functions of stage one.
        unique = [Sentence(tokens, ("O",) * len(tokens)) for tokens in dict.fromkeys(sentences)]
        transfer = self._transfer(unique) if self._model.needs_transfer else None
        dtype = self.recipe.embeddings.dtype
        embeddings = {
            name: _stored(unique, embedding_entries(embedder, unique, dtype), embedder.width)
            for name, embedder in self._embedders.items()
        }
        return predict(self._model, sentences, transfer, embeddings)

    def _transfer(self, unique: Sequence[Sentence]) -> StoredVectors:
        """T of these sentences."""
        keys = [sentence.key for sentence in unique]
        translations = dict(zip(keys, translation_entries(self._translator, unique), strict=True))
        recipe = self.recipe.transfer
        transfers = transfer_entries(self._english, self._attend, recipe, unique, translations)
        return _stored(unique, transfers, transfer_width(self._english, recipe))


def _stored(sentences: Sequence[Sentence], entries: Sequence[Entry], width: int) -> StoredVectors:
    keyed = {sentence.key: entry for sentence, entry in zip(sentences, entries, strict=True)}
    return StoredVectors(keyed, width, "new text")


def tag_text(
    run: Path, source: TextIO, out: TextIO, *, form: Form, device: str, trust: bool, batch: int
) -> None:
    """Tag a text and write token and tag in two columns.

    :param batch: sentences that are read, tagged and written at a time; memory stays flat.
    """
    tagger = TextTagger(run, device=device, trust=trust)
    corpus = tagger.recipe.corpus
    if form == "columns":
        sentences = read_columns(source, corpus.unit, source.name, corpus.format)
    else:
        sentences = read_lines(source, corpus.unit, source.name)
    while part := list(islice(sentences, batch)):
        for tokens, tags in zip(part, tagger.tag(part), strict=True):
            out.writelines(f"{token}\t{tag}\n" for token, tag in zip(tokens, tags, strict=True))
            out.write("\n")
        out.flush()


def read_lines(source: TextIO, unit: Unit, name: str) -> Iterator[Tokens]:
    """One sentence a line, with spaces between the tokens; an empty line is no sentence.

    Where the unit is a character, every character but a blank is a token.

    :raises CorpusError: an undecodable byte, or a tab, as a file of columns has; names file and line.
    """
    for number, line in enumerate(_lines(source, name), 1):
        if "\t" in line:
            raise CorpusError(
                f"{name}:{number}: found a tab, expected a sentence with spaces between its tokens; is it a "
                "file of columns? Then say --format columns"
            )
        if words := line.split() if unit == "character" else split_columns(line):
            yield tuple("".join(words)) if unit == "character" else tuple(words)


def read_columns(source: TextIO, unit: Unit, name: str, format: ColumnFormat) -> Iterator[Tokens]:
    """One token a line, an empty line between sentences.

    :param format: of the run's corpus: what separates columns, where the token stands (a line of one column
        is the token), and which lines are comments or stand between documents. Other columns are ignored. A
        segmentation digit is taken off, where there is one.
    :raises CorpusError: an undecodable byte, no column of that number, or a token of several characters where
        the unit is one.
    """
    pending: list[str] = []
    for number, line in enumerate(_lines(source, name), 1):
        if format.comment and line.startswith(format.comment):
            continue
        cells = line.split("\t") if format.separator == "tab" else split_columns(line)
        if not line.strip(" \t") or (format.docstart and format.docstart in cells):
            if pending:
                yield tuple(pending)
                pending = []
            continue
        column = format.token if len(cells) > 1 else 0
        if not -len(cells) <= column < len(cells):
            raise CorpusError(
                f"{name}:{number}: found {len(cells)} columns, expected the token in column {column}, as in "
                "the run's corpus (corpus.format.token of its recipe.json)"
            )
        token = cells[column]
        if format.segmentation_digit and len(token) > 1 and token[-1] in "0123456789":
            token = token[:-1]
        if not token.strip(" ") or (unit == "character" and len(token) > 1 and not format.split_characters):
            raise CorpusError(f"{name}:{number}: found {token!r}, expected one {unit} in column {column}")
        pending += token if format.split_characters else [token]
    if pending:
        yield tuple(pending)


def _lines(source: TextIO, name: str) -> Iterator[str]:
    try:
        for number, line in enumerate(source):
            text = line.removeprefix("\ufeff") if number == 0 else line  # a byte order mark
            yield text.rstrip("\n").rstrip("\r")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{name}: not UTF-8 ({error}); convert it, then run again") from None


def open_text(file: Path | None) -> TextIO:
    """Open a file, or standard input, for :func:`tag_text`.

    :raises MissingError: it cannot be read.
    """
    if file is None:
        cast(TextIOWrapper, sys.stdin).reconfigure(encoding="utf-8")  # whatever the locale says
        return sys.stdin
    try:
        return file.open(encoding="utf-8", newline="\n")
    except OSError as error:
        raise MissingError(f"{file}: cannot be read ({error.strerror}); name a text file, or none") from None
