"""Run stage one: load the models that are needed, and bring the stores of a plan up to date.

The packages of a model are imported when it is loaded: embeddings alone need no fairseq.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from backattn.common.device import bound_kernel_caches, device_name, takes_bfloat16
from backattn.common.errors import NotFetchedError, StaleError
from backattn.common.extras import require_extras
from backattn.corpus import Corpus
from backattn.embeddings import Embedder
from backattn.features.build import (
    Built,
    Computing,
    build_embeddings,
    build_transfers,
    build_translations,
    collect,
    translations_of,
)
from backattn.features.fetching import fetch_model, model_extra, require_hub_vouchers
from backattn.features.plan import Plan, Stage
from backattn.models.flair_config import SUFFIX
from backattn.models.model_digests import (
    bert_folder,
    charlm_paths,
    english_path,
    fasttext_path,
    translator_folder,
)
from backattn.models.vouchers import NOBODY, Vouchers, check_digest
from backattn.recipe import (
    CopyRecipe,
    DictionaryRecipe,
    EmbeddingName,
    ModelTranslator,
    Recipe,
    TransformersRecipe,
    model_path,
)
from backattn.store.reader import StoreReader
from backattn.translation import Translator
from backattn.translation.identity import CopyTranslator

if TYPE_CHECKING:
    from backattn.english.flair import FlairTagger

_Place = TypeVar("_Place")


@dataclass(frozen=True)
class Features:
    """Result of stage one.

    :param stores: name of each store of the plan -> result of building it, in the order of the plan.
    """

    stores: Mapping[str, Built]

    @property
    def translation(self) -> Built:
        """Result for the translation store."""
        return self.stores["translation"]

    @property
    def transfer(self) -> Built:
        """Result for the transfer store."""
        return self.stores["transfer"]


def make_features(
    recipe: Recipe,
    plan: Plan,
    *,
    device: str,
    vouchers: Vouchers = NOBODY,
    computing: Computing | None = None,
) -> Features:
    """Compute the missing sentences of all stores of a plan, or a share of their shards.

    :param device: ``cpu`` or ``cuda``; not part of a store's identity.
    :param vouchers: which pickled models may be opened.
    :param computing: who computes, and which shards; by default this process, all of them.
    """
    computing = computing or Computing()
    words = computing.device or device_name(device)
    bound_kernel_caches()

    def bring_up_to_date(stage: Stage) -> Built:
        load = UnchangedModel.of(stage, recipe, device, vouchers)
        if stage.kind == "translation":
            model = recipe.translator
            precision = model.precision if isinstance(model, ModelTranslator) else "float32"
            reduced = device == "cpu" and takes_bfloat16(precision, device)
            return build_translations(stage, load, f"{words}, bfloat16" if reduced else words, computing)
        if stage.kind == "transfer":
            share = computing.share
            known = (
                StoreReader(plan.translation.path)
                if share is None
                else translations_of(plan.translation, share)
            )
            return build_transfers(stage, known, recipe.transfer, load, words, computing)
        return build_embeddings(stage, load, words, computing)

    # The identities of all stages are computed before the first one starts, and all packages and pickles are
    # checked: what is missing or refused is reported now, and not hours later.
    require_usable([stage for stage in plan.stages if stage.missing(stage.open())], recipe, vouchers)
    return Features({stage.name: bring_up_to_date(stage) for stage in plan.stages})


def collect_features(plan: Plan) -> Features:
    """Merge the shards that shares made (``--shard``) into the stores of a plan.

    :raises StaleError: shards are missing; names all stores that lack some. The others are merged.
    """
    stores, lacking = {}, []
    for stage in plan.stages:
        try:
            stores[stage.name] = collect(stage)
        except StaleError as error:
            lacking.append(str(error))
    if lacking:
        raise StaleError("; ".join(lacking))
    return Features(stores)


@dataclass(frozen=True)
class UnchangedModel:
    """Loads the model of a stage, here or in a worker; then its files must still have the stage's digests.

    The digests are taken before the first stage starts, which may be hours before this model is opened, and
    on another machine than that of a worker.

    :param stage: without its sentences, and ``plan`` without its corpus: each worker receives them.
    """

    stage: Stage
    plan: Plan
    device: str
    vouchers: Vouchers

    @classmethod
    def of(cls, stage: Stage, recipe: Recipe, device: str, vouchers: Vouchers) -> "UnchangedModel":
        """The model of one stage of a recipe."""
        return cls(replace(stage, sentences=()), Plan(recipe, Corpus((), (), ())), device, vouchers)

    def __call__(self) -> Any:
        """Load the model.

        :raises StaleError: its files are not those of the stage.
        """
        stage, recipe = self.stage, self.plan.recipe
        bound_kernel_caches()
        model: Any
        if stage.kind == "translation":
            model = load_translator(recipe, self.device, compared=True)
        elif stage.kind == "transfer":
            model = load_english_tagger(recipe, self.device, self.vouchers)
        else:
            model = load_embedder(recipe, stage.recipe["embedding"], self.device, self.vouchers)
        if self.plan.models(stage) != stage.models:
            raise StaleError(
                f"{stage.path}: a model that it is made with was changed while this command ran, or is "
                "another one where this worker runs; run it again with the same models everywhere"
            )
        return model


def require_usable(stages: Sequence[Stage], recipe: Recipe, vouchers: Vouchers) -> None:
    """Refuse a missing package, or a pickle, before any model is opened; pickles are checked again then.

    :raises MissingError: a package that the models of the stages need is not installed.
    :raises ModelError: a pickle that a stage opens is not vouched for, or differs from its pinned sha256.
    """
    require_extras("stage one", (model_extra(recipe, stage.model_key) for stage in stages))
    for stage in stages:
        _require_vouchers(stage, recipe, vouchers)


def _require_vouchers(stage: Stage, recipe: Recipe, vouchers: Vouchers) -> None:
    require_hub_vouchers(recipe, stage.model_key, vouchers)
    if stage.kind == "transfer" and not recipe.english_tagger.hub:
        english = recipe.english_tagger
        path = model_path(english.checkpoint)
        check_digest(str(path), stage.models[path.name], english.sha256)
        if path.suffix.lower() != SUFFIX:
            vouchers.opened(str(path), stage.models[path.name], english.sha256, convertible=True)


def load_translator(recipe: Recipe, device: str, *, compared: bool = False) -> Translator:
    """Load the translator of a recipe, of whichever kind, from a folder or from the hub.

    :param compared: the caller compares the digests of its files (see :meth:`.FairseqTranslator.load`).
    :raises MissingError: its package is not installed, or its files are not there.
    """
    translator = recipe.translator
    require_extras("the translator", [model_extra(recipe, "translator")])
    if isinstance(translator, CopyRecipe):
        return CopyTranslator()
    if isinstance(translator, DictionaryRecipe):
        from backattn.translation.dictionary import DictionaryTranslator

        return DictionaryTranslator.load(translator)
    folder = _fetched(lambda: translator_folder(recipe), recipe, "translator")
    if isinstance(translator, TransformersRecipe):
        from backattn.translation.marian import MarianTranslator

        return MarianTranslator.load(folder, translator, device=device)
    from backattn.translation.fairseq import FairseqTranslator

    if translator.hub:
        return FairseqTranslator.load_archive(folder, translator, device=device)
    return FairseqTranslator.load(folder, translator, device=device, compared=compared)


def _fetched(place: Callable[[], _Place], recipe: Recipe, key: str, vouchers: Vouchers = NOBODY) -> _Place:
    """Find the place of a model; fetch a hub's model that is not on this machine."""
    try:
        return place()
    except NotFetchedError:
        fetch_model(recipe, key, vouchers)
        return place()


def load_english_tagger(recipe: Recipe, device: str, vouchers: Vouchers) -> "FlairTagger":
    """Load the English tagger of a recipe, from a file or from the hub."""
    from backattn.english.flair import FlairTagger

    english = recipe.english_tagger
    batch_tokens = english.batch_tokens
    path = _fetched(lambda: english_path(recipe), recipe, "english", vouchers)
    tagger = FlairTagger.load(
        path, sha256=english.sha256, vouchers=vouchers, batch_tokens=batch_tokens, device=device
    )
    tagger.states = recipe.transfer.states
    return tagger


def load_embedder(recipe: Recipe, name: EmbeddingName, device: str, vouchers: Vouchers) -> Embedder:
    """Load one of the embeddings of a recipe, from files or from the hub."""
    tables = recipe.embeddings
    if name == "fasttext":
        from backattn.embeddings.fasttext_binary import open_fasttext

        assert tables.fasttext is not None
        return open_fasttext(fasttext_path(tables.fasttext))
    if name == "charlm":
        from backattn.embeddings.charlm import CharLm

        charlm = tables.charlm
        assert charlm is not None
        batch_tokens = charlm.batch_tokens
        if charlm.hub:
            paths = _fetched(lambda: charlm_paths(recipe), recipe, "embeddings.charlm", vouchers)
            return CharLm.load_fetched(
                paths, charlm.hub, sha256=charlm.sha256, vouchers=vouchers, batch_tokens=batch_tokens,
                device=device,
            )  # fmt: skip
        return CharLm.load(model_path(charlm.checkpoint), batch_tokens=batch_tokens, device=device)
    from backattn.embeddings.bert import Bert

    assert tables.bert is not None
    folder = _fetched(lambda: bert_folder(recipe), recipe, "embeddings.bert")
    return Bert.load(folder, tables.bert, device=device)
