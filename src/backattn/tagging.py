"""Tag new text through both stages: source tokens -> translation -> T, and frozen features -> tags."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, TextIO

from backattn.common.device import pick_device
from backattn.common.errors import MissingError, ModelError, RecipeError, StaleError
from backattn.common.safe_text import plain, quoted
from backattn.common.version import __version__
from backattn.corpus import Corpus, Sentence
from backattn.corpus.input_text import Tokens, read_columns, read_lines
from backattn.corpus.tags import OUTSIDE, split_tag
from backattn.embeddings import Embedder
from backattn.experiments.runs import StoredVectors
from backattn.features.attention import transfer_attention
from backattn.features.entries import embedding_entries, transfer_entries, transfer_width, translation_entries
from backattn.features.fetching import fetch_models
from backattn.features.pipeline import require_vouchers
from backattn.features.plan import Stage, make_plan
from backattn.models.vouchers import NOBODY, Vouchers
from backattn.recipe import Recipe, from_json
from backattn.store.layout import Entry
from backattn.tagger.prediction import TaggerModel, load_run, predict
from backattn.tagger.run import ADVICE, RunFolder, read_json

Form = Literal["lines", "columns"]


class TextTagger:
    """A finished run with the models of stage one that it needs, loaded once.

    :param vouchers: of models that are pickles. The run may come from a stranger, so it vouches for none.
    :raises MissingError: the run or a model is missing.
    :raises ModelError: the run or a model is damaged, or a pickle has no voucher.
    """

    def __init__(self, run: Path, *, device: str = "auto", vouchers: Vouchers = NOBODY) -> None:
        self._device = pick_device(device)
        self._model: TaggerModel = load_run(run, self._device)
        path = RunFolder(run).recipe
        self.recipe = self._recipe_of(path)
        self._fetch(vouchers)
        for stage in self._refuse_other_models(run):
            require_vouchers(stage, self.recipe, vouchers)
        # A run on words alone needs none of stage one's packages.
        if self._model.needs_transfer:
            from backattn.features.pipeline import load_english_tagger, load_translator

            self._attend = transfer_attention(self.recipe.transfer)
            self._translator = load_translator(self.recipe, self._device)
            self._english = load_english_tagger(self.recipe, self._device, vouchers)
        names = [name for name in self.recipe.tagger.embeddings if name in self._model.embeddings]
        self._embedders: dict[str, Embedder] = {}
        if names:
            from backattn.features.pipeline import load_embedder

            self._embedders = {n: load_embedder(self.recipe, n, self._device, vouchers) for n in names}

    def _recipe_of(self, path: Path) -> Recipe:
        try:
            return from_json(read_json(path), str(path))
        except RecipeError as error:  # written by a program, so by another version
            made = self._model.run.environment.get("backattn")
            raise RecipeError(
                f"{error}; the run was made by backattn {plain(str(made))}, this is {__version__}: where its "
                "recipes have other keys, tag with that version, or train again"
            ) from None

    def _fetch(self, vouchers: Vouchers) -> None:
        """Fetch the models of hubs that the run has read and that are not on this machine."""
        if self._model.needs_transfer:
            fetch_models(self.recipe, "transfer", vouchers=vouchers)
        if self._model.embeddings:
            fetch_models(self.recipe, "embeddings", vouchers=vouchers)

    def _refuse_other_models(self, run: Path) -> list[Stage]:
        """Check that the models at the paths of the recipe are those behind the stores that the run has read.

        :return: the stages that make these stores.
        :raises RecipeError: T cannot be computed for new text.
        :raises MissingError: a model is missing.
        :raises ModelError: the recipe does not name an embedding of the run, or a model's file was changed.
        :raises StaleError: another model lies at the path.
        """
        if self._model.needs_transfer and self.recipe.transfer.attention == "links":
            raise RecipeError(
                f"{run}: was trained on an aligner's links (transfer.attention), and nobody has linked "
                "new text; tag with a run on the translator's own attention"
            )
        try:
            read = self._stages_read()
        except MissingError as error:
            raise MissingError(
                f"{error}; the run needs the very file that it has learnt from: put that back"
            ) from None
        for name, (stage, store) in read.items():
            if stage.recipe_id != store:
                raise StaleError(
                    f"{run}: has learnt from {name} of the store {store[:14]}; the models that its "
                    f"recipe.json names make {stage.recipe_id[:14]} now. Put back those that it was trained "
                    "with (below BACKATTN_CACHE), or train again"
                )
        return [stage for stage, _ in read.values()]

    def _stages_read(self) -> dict[str, tuple[Stage, str]]:
        """Kind of vectors -> the stage that makes it now, and the id of the store that the run read."""
        plan = make_plan(self.recipe, Corpus((), (), ()))  # a store's id does not depend on the corpus
        run = self._model.run
        read: dict[str, tuple[Stage, str]] = {}
        if run.store is not None:
            read["T"] = plan.transfer, run.store
        for name, store in run.facts.embeddings.items():
            if name not in plan.embeddings:
                raise ModelError(
                    f"{run.folder}: has read {quoted(name)}, which tagger.embeddings of its "
                    f"recipe.json does not name; {ADVICE}"
                )
            read[name] = plan.embeddings[name], store
        return read

    @property
    def types(self) -> set[str]:
        """The entity types of its tags, and their names in the files of its corpus."""
        return self.predicted_types | set(self.recipe.corpus.format.types)

    @property
    def predicted_types(self) -> set[str]:
        """The entity types of its tags."""
        return {split_tag(tag)[1] for tag in self._model.vocabulary.tags if tag != OUTSIDE}

    def tag(self, sentences: Sequence[Tokens]) -> list[Tokens]:
        """The BIOES tags of sentences of at least one token, in the given order."""
        # Equal sentences are computed once, by the functions of stage one.
        unique = [Sentence(tokens, ("O",) * len(tokens)) for tokens in dict.fromkeys(sentences)]
        transfer = self._transfer(unique) if self._model.needs_transfer else None
        dtype = self.recipe.embeddings.dtype
        embeddings = {
            name: _stored(unique, embedding_entries(embedder, unique, dtype), embedder.width)
            for name, embedder in self._embedders.items()
        }
        return predict(self._model, sentences, transfer, embeddings)

    def _transfer(self, unique: Sequence[Sentence]) -> StoredVectors:
        """Compute T of the sentences."""
        keys = [sentence.key for sentence in unique]
        translations = dict(zip(keys, translation_entries(self._translator, unique), strict=True))
        recipe = self.recipe.transfer
        transfers = transfer_entries(self._english, self._attend, recipe, unique, translations)
        return _stored(unique, transfers, transfer_width(self._english, recipe))


def _stored(sentences: Sequence[Sentence], entries: Sequence[Entry], width: int) -> StoredVectors:
    keyed = {sentence.key: entry for sentence, entry in zip(sentences, entries, strict=True)}
    return StoredVectors(keyed, width, "new text")


def tag_text(
    run: Path, source: TextIO, out: TextIO, *, form: Form, device: str, vouchers: Vouchers, batch: int
) -> None:
    """Tag a text and write tokens and tags in two columns.

    :param batch: number of sentences that are read, tagged and written at a time, which bounds the memory.
    """
    tagger = TextTagger(run, device=device, vouchers=vouchers)
    corpus = tagger.recipe.corpus
    read = read_columns if form == "columns" else read_lines
    sentences = read(source, corpus.unit, source.name, corpus.format, tagger.types)
    while part := list(islice(sentences, batch)):
        for tokens, tags in zip(part, tagger.tag(part), strict=True):
            out.writelines(f"{token}\t{tag}\n" for token, tag in zip(tokens, tags, strict=True))
            out.write("\n")
        out.flush()
