"""Tag new text through both stages: source tokens -> translation -> T, and frozen features -> tags."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from backattn.common.device import pick_device
from backattn.common.errors import MissingError, ModelError, RecipeError, StaleError
from backattn.common.safe_text import plain, quoted
from backattn.common.version import __version__
from backattn.corpus import Corpus, Sentence
from backattn.corpus.documents import Tokens
from backattn.corpus.tags import OUTSIDE, split_tag
from backattn.experiments.trainer import StoredVectors
from backattn.features.fetching import fetch_models
from backattn.features.new_text import TRANSFER, FeatureModels, FeatureSource
from backattn.features.pipeline import require_usable
from backattn.features.plan import Stage, make_plan
from backattn.models.package_folder import MODELS, open_package
from backattn.models.vouchers import NOBODY, Vouchers
from backattn.recipe import Recipe, from_json
from backattn.tagger.prediction import Prediction, TaggerModel, load_run, predict_scored
from backattn.tagger.run import ADVICE, RunFolder, read_json


class TextTagger:
    """A finished run with the models of stage one that it needs, each loaded once, when it is first needed.

    Sentences that the run's stores hold are taken from there.

    :param run: folder of the run, or of a packaged run, whose models are its own and which reads no store.
    :param vouchers: which pickles may be opened. The run may come from a stranger, so it vouches for none.
    :raises MissingError: the run is missing.
    :raises ModelError: the run is damaged.
    """

    def __init__(self, run: Path, *, device: str = "auto", vouchers: Vouchers = NOBODY) -> None:
        self._device = pick_device(device)
        self._vouchers = vouchers
        self._folder = run
        self._package = open_package(run)
        self._model: TaggerModel = load_run(run, self._device)
        recipe = self._recipe_of(RunFolder(run).recipe)
        self.recipe = self._package.recipe(recipe) if self._package else recipe

    @cached_property
    def _stages(self) -> Mapping[str, Stage]:
        """Kind of vectors that the run reads -> the stage that makes it; all models are checked before one
        is loaded."""
        if self._package:
            self._package.require_models()
        self._fetch()
        stages = self._refuse_other_models(self._folder)
        require_usable([*stages.values()], self.recipe, self._vouchers)
        if self._package:  # a stranger's package must not read a store of the user's cache
            no_store = self._folder / MODELS / "no store"
            return {name: replace(stage, path=no_store) for name, stage in stages.items()}
        return stages

    def _fetch(self) -> None:
        """Fetch the hub models that the run needs and that are not on this machine."""
        if self._model.needs_transfer:
            fetch_models(self.recipe, "transfer", vouchers=self._vouchers)
        if self._model.embeddings:
            fetch_models(self.recipe, "embeddings", vouchers=self._vouchers)

    @cached_property
    def _features(self) -> FeatureSource:
        models = FeatureModels(self.recipe, self._device, self._vouchers)
        return FeatureSource({name: stage.open() for name, stage in self._stages.items()}, models.compute)

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
        """Check that the models at the paths of the recipe made the stores that the run was trained on.

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
                f"{error}; the run needs exactly the file that it was trained with: put that back"
            ) from None
        for name, (stage, store) in read.items():
            if stage.recipe_id != store:
                if self._package:
                    self._package.require_digests()
                raise StaleError(
                    f"{run}: has learnt from {name} of the store {store[:14]}; the models that its "
                    f"recipe.json names make {stage.recipe_id[:14]} now. Put back those that it was trained "
                    "with (below BACKATTN_CACHE), or train again"
                )
        return {name: stage for name, (stage, _) in read.items()}

    def _stages_read(self) -> dict[str, tuple[Stage, str]]:
        """Map each kind of vectors to the stage that makes it now, and the id of the store that was read."""
        run = self._model.run
        read: dict[str, tuple[Stage, str]] = {}
        if not self._model.needs_transfer and not run.facts.embeddings:
            return read  # such a run tags even if its recipe names no models
        plan = make_plan(self.recipe, Corpus((), (), ()))  # a store's id does not depend on the corpus
        if self._model.needs_transfer and run.store is not None:
            read[TRANSFER] = plan.transfer, run.store
        for name, store in run.facts.embeddings.items():
            if name not in plan.embeddings:
                raise ModelError(
                    f"{run.folder}: has read {quoted(name)}, which tagger.embeddings of its "
                    f"recipe.json does not name; {ADVICE}"
                )
            read[name] = plan.embeddings[name], store
        return read

    @property
    def failure(self) -> str:
        """A line that says that the run has learnt nothing; else empty."""
        return self._model.run.failure

    @property
    def types(self) -> set[str]:
        """The entity types of its tags, and their names in the files of its corpus."""
        return self.predicted_types | set(self.recipe.corpus.format.types)

    @property
    def predicted_types(self) -> set[str]:
        """The entity types of its tags."""
        return {split_tag(tag)[1] for tag in self._model.vocabulary.tags if tag != OUTSIDE}

    def tag(self, sentences: Sequence[Tokens]) -> list[Prediction]:
        """Tag sentences of at least one token, in the given order.

        :raises MissingError: a model of stage one is missing.
        :raises ModelError: a model is damaged, or a pickle has no voucher.
        :raises StoreError: a store of the run is damaged.
        """
        if not sentences:
            return []
        # Equal sentences are computed once, by the functions of stage one.
        unique = [Sentence(tokens, ("O",) * len(tokens)) for tokens in dict.fromkeys(sentences)]
        made = {
            name: StoredVectors(*self._features.entries(name, unique), "new text") for name in self._stages
        }
        transfer = made.pop(TRANSFER, None)
        return predict_scored(self._model, sentences, transfer, made)
