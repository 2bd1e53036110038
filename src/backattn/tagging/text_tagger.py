"""Tag new text through both stages: source tokens -> translation -> T, and frozen features -> tags."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from backattn.common.device import pick_device
from backattn.common.errors import MissingError, ModelError, RecipeError, StaleError
from backattn.common.safe_text import plain, quoted
from backattn.common.version import __version__
from backattn.corpus import Corpus, Sentence
from backattn.corpus.documents import Tokens
from backattn.corpus.tags import OUTSIDE, split_tag
from backattn.embeddings import Embedder
from backattn.experiments.runs import StoredVectors
from backattn.features.attention import transfer_attention
from backattn.features.entries import embedding_entries, transfer_entries, transfer_width, translation_entries
from backattn.features.fetching import fetch_models
from backattn.features.pipeline import require_usable
from backattn.features.plan import Stage, make_plan
from backattn.models.vouchers import NOBODY, Vouchers
from backattn.recipe import EmbeddingName, Recipe, from_json
from backattn.store.layout import Entry
from backattn.store.reader import StoreReader
from backattn.tagger.prediction import Prediction, TaggerModel, load_run, predict_scored
from backattn.tagger.run import ADVICE, RunFolder, read_json

if TYPE_CHECKING:
    from backattn.english.flair import FlairTagger
    from backattn.translation import Translator

# Name of T among the vectors that a run reads; the others are named after the embeddings.
_TRANSFER = "T"


class TextTagger:
    """A finished run with the models of stage one that it needs, each loaded once, when it is first needed.

    Sentences that the run's stores hold are taken from there.

    :param vouchers: of models that are pickles. The run may come from a stranger, so it vouches for none.
    :raises MissingError: the run is missing.
    :raises ModelError: the run is damaged.
    """

    def __init__(self, run: Path, *, device: str = "auto", vouchers: Vouchers = NOBODY) -> None:
        self._device = pick_device(device)
        self._vouchers = vouchers
        self._folder = run
        self._verified: set[str] = set()  # names of stores
        self._embedders: dict[str, Embedder] = {}
        self._model: TaggerModel = load_run(run, self._device)
        self.recipe = self._recipe_of(RunFolder(run).recipe)

    @cached_property
    def _stages(self) -> Mapping[str, Stage]:
        """Kind of vectors that the run reads -> the stage that makes it; all models are checked before one
        is loaded."""
        self._fetch()
        stages = self._refuse_other_models(self._folder)
        require_usable([*stages.values()], self.recipe, self._vouchers)
        return stages

    def _fetch(self) -> None:
        """Fetch the models of hubs that the run has read and that are not on this machine."""
        if self._model.needs_transfer:
            fetch_models(self.recipe, "transfer", vouchers=self._vouchers)
        if self._model.embeddings:
            fetch_models(self.recipe, "embeddings", vouchers=self._vouchers)

    @cached_property
    def _stores(self) -> dict[str, StoreReader | None]:
        return {name: stage.open() for name, stage in self._stages.items()}

    # A run on words alone needs none of stage one's packages.
    @cached_property
    def _translator(self) -> "Translator":
        from backattn.features.pipeline import load_translator

        return load_translator(self.recipe, self._device)

    @cached_property
    def _english(self) -> "FlairTagger":
        from backattn.features.pipeline import load_english_tagger

        return load_english_tagger(self.recipe, self._device, self._vouchers)

    def _recipe_of(self, path: Path) -> Recipe:
        try:
            return from_json(read_json(path), str(path))
        except RecipeError as error:  # written by a program, so by another version
            made = self._model.run.environment.get("backattn")
            raise RecipeError(
                f"{error}; the run was made by backattn {plain(str(made))}, this is {__version__}: where its "
                "recipes have other keys, tag with that version, or train again"
            ) from None

    def _refuse_other_models(self, run: Path) -> dict[str, Stage]:
        """Check that the models at the paths of the recipe are those behind the stores that the run has read.

        :return: kind of vectors -> the stage that makes its store.
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
        return {name: stage for name, (stage, _) in read.items()}

    def _stages_read(self) -> dict[str, tuple[Stage, str]]:
        """Kind of vectors -> the stage that makes it now, and the id of the store that the run read."""
        run = self._model.run
        read: dict[str, tuple[Stage, str]] = {}
        if not self._model.needs_transfer and not run.facts.embeddings:
            return read  # a recipe without models will do
        plan = make_plan(self.recipe, Corpus((), (), ()))  # a store's id does not depend on the corpus
        if self._model.needs_transfer and run.store is not None:
            read[_TRANSFER] = plan.transfer, run.store
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

    def tag(self, sentences: Sequence[Tokens]) -> list[Prediction]:
        """The tags and entities of sentences of at least one token, in the given order.

        :raises MissingError: a model of stage one is missing.
        :raises ModelError: a model is damaged, or a pickle has no voucher.
        :raises StoreError: a store of the run is damaged.
        """
        if not sentences:
            return []
        # Equal sentences are computed once, by the functions of stage one.
        unique = [Sentence(tokens, ("O",) * len(tokens)) for tokens in dict.fromkeys(sentences)]
        made = {name: self._vectors(name, unique) for name in self._stages}
        transfer = made.pop(_TRANSFER, None)
        return predict_scored(self._model, sentences, transfer, made)

    def _vectors(self, name: str, unique: Sequence[Sentence]) -> StoredVectors:
        """Vectors of sentences: stored ones, and those of the others, which are computed."""
        store, known, width = self._stores[name], dict[bytes, Entry](), 0
        if store is not None:
            known = {sentence.key: store[sentence.key] for sentence in unique if sentence.key in store}
            width = int(store.attributes["d"])
            if known and name not in self._verified:
                store.verify()  # every byte, once, as before a training
                self._verified.add(name)
        fresh = [sentence for sentence in unique if sentence.key not in known]
        if fresh:
            computed, width = self._transfer(fresh) if name == _TRANSFER else self._embed(name, fresh)
            known |= {sentence.key: entry for sentence, entry in zip(fresh, computed, strict=True)}
        return StoredVectors(known, width, "new text")

    def _embed(self, name: str, sentences: Sequence[Sentence]) -> tuple[list[Entry], int]:
        """Compute frozen features of the sentences, and tell their width."""
        if name not in self._embedders:
            from backattn.features.pipeline import load_embedder

            self._embedders[name] = load_embedder(
                self.recipe, cast(EmbeddingName, name), self._device, self._vouchers
            )
        embedder = self._embedders[name]
        return embedding_entries(embedder, sentences, self.recipe.embeddings.dtype), embedder.width

    def _transfer(self, sentences: Sequence[Sentence]) -> tuple[list[Entry], int]:
        """Compute T of the sentences, and tell its width."""
        recipe = self.recipe.transfer
        keys = [sentence.key for sentence in sentences]
        translations = dict(zip(keys, translation_entries(self._translator, sentences), strict=True))
        attend = transfer_attention(recipe)
        entries = transfer_entries(self._english, attend, recipe, sentences, translations)
        return entries, transfer_width(self._english, recipe)
