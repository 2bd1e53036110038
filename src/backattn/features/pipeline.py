"""Stage one as one call: load what is needed, bring the stores of a plan up to date.

A model's packages are imported when it is loaded: who computes embeddings alone needs no fairseq.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from backattn.common.device import bound_kernel_caches, device_name, takes_bfloat16
from backattn.common.errors import StaleError
from backattn.embeddings import Embedder
from backattn.features.build import Built, build_embeddings, build_transfers, build_translations
from backattn.features.plan import Plan, Stage
from backattn.models.safetensors_model import SUFFIX
from backattn.models.vouchers import NOBODY, Vouchers, check_digest
from backattn.recipe import (
    CopyRecipe,
    DictionaryRecipe,
    EmbeddingName,
    ModelTranslator,
    Recipe,
    TransformersRecipe,
    data_path,
    model_path,
)
from backattn.store.reader import StoreReader
from backattn.translation import Translator
from backattn.translation.identity import CopyTranslator

if TYPE_CHECKING:
    from backattn.english.flair import FlairTagger

_Model = TypeVar("_Model")


@dataclass(frozen=True)
class Features:
    """What stage one did.

    :param stores: name of each store of the plan -> what was done there, in the plan's order.
    """

    stores: Mapping[str, Built]

    @property
    def translation(self) -> Built:
        """Of the translation store."""
        return self.stores["translation"]

    @property
    def transfer(self) -> Built:
        """Of the transfer store."""
        return self.stores["transfer"]


def make_features(recipe: Recipe, plan: Plan, *, device: str, vouchers: Vouchers = NOBODY) -> Features:
    """Compute what is missing of the translation store, of the transfer store, of those of the embeddings.

    :param device: ``cpu`` or ``cuda``; it does not change a store's identity.
    :param vouchers: of models that are pickles.
    """
    words = device_name(device)
    bound_kernel_caches()

    def bring_up_to_date(stage: Stage) -> Built:
        if stage.kind == "translation":
            translator = _as_named(stage, plan, lambda: load_translator(recipe, device))
            model = recipe.translator
            precision = model.precision if isinstance(model, ModelTranslator) else "float32"
            reduced = device == "cpu" and takes_bfloat16(precision, device)
            return build_translations(stage, translator, f"{words}, bfloat16" if reduced else words)
        if stage.kind == "transfer":
            translations = StoreReader(plan.translation.path)
            tagger = _as_named(stage, plan, partial(load_english_tagger, recipe, device, vouchers))
            return build_transfers(stage, translations, recipe.transfer, tagger, words)
        embedder = partial(load_embedder, recipe, stage.recipe["embedding"], device, vouchers)
        return build_embeddings(stage, _as_named(stage, plan, embedder), words)

    # All stages have a name before the first is at work: a missing model is not missed hours later. Nor is a
    # pickle refused then.
    for stage in plan.stages:
        if stage.missing(stage.open()):
            require_vouchers(stage, recipe, vouchers)
    return Features({stage.name: bring_up_to_date(stage) for stage in plan.stages})


def _as_named(stage: Stage, plan: Plan, load: Callable[[], _Model]) -> Callable[[], _Model]:
    """Load a model, and see that its files are still those that the stage was named by.

    A stage has its name before the first is at work, which may be hours before its own model is opened.
    """

    def loaded() -> _Model:
        model = load()
        if plan.models(stage) != stage.models:
            raise StaleError(
                f"{stage.path}: a model that it is made with was changed while this command ran; run it again"
            )
        return model

    return loaded


def require_vouchers(stage: Stage, recipe: Recipe, vouchers: Vouchers) -> None:
    """Refuse a pickle before any model is opened; who opens it looks again.

    :raises ModelError: nobody vouches for a pickle that this stage opens, or it is not the one of the pin.
    """
    charlm = recipe.embeddings.charlm
    if stage.kind == "transfer":
        english = recipe.english_tagger
        if english.hub:
            vouchers.require_for_hub(
                english.hub, [english.sha256] if english.sha256 else [], "english.sha256"
            )
            return
        path = model_path(english.checkpoint)
        check_digest(str(path), stage.models[path.name], english.sha256)
        if path.suffix.lower() != SUFFIX:
            vouchers.opened(str(path), stage.models[path.name], english.sha256, convertible=True)
    elif stage.name == "embeddings/charlm" and charlm is not None and charlm.hub:
        vouchers.require_for_hub(charlm.hub, charlm.sha256, "embeddings.charlm.sha256")


def load_translator(recipe: Recipe, device: str) -> Translator:
    """The translator of a recipe, from its folder or the hub; or what stands in its place."""
    translator = recipe.translator
    if isinstance(translator, CopyRecipe):
        return CopyTranslator()
    if isinstance(translator, DictionaryRecipe):
        from backattn.translation.dictionary import DictionaryTranslator

        return DictionaryTranslator.load(translator.dictionary)
    if isinstance(translator, TransformersRecipe):
        from backattn.translation.marian import MarianTranslator

        if translator.hub:
            return MarianTranslator.from_hub(translator, device=device)
        return MarianTranslator.load(model_path(translator.checkpoint), translator, device=device)
    from backattn.translation.fairseq import FairseqTranslator

    if translator.hub:
        return FairseqTranslator.from_hub(translator, device=device)
    return FairseqTranslator.load(model_path(translator.checkpoint), translator, device=device)


def load_english_tagger(recipe: Recipe, device: str, vouchers: Vouchers) -> "FlairTagger":
    """The English tagger of a recipe, from its file or the hub."""
    from backattn.english.flair import FlairTagger

    english = recipe.english_tagger
    batch_tokens = english.batch_tokens
    if english.hub:
        tagger = FlairTagger.from_hub(
            english.hub, sha256=english.sha256, vouchers=vouchers, batch_tokens=batch_tokens, device=device
        )
    else:
        path = model_path(english.checkpoint)
        tagger = FlairTagger.load(
            path, sha256=english.sha256, vouchers=vouchers, batch_tokens=batch_tokens, device=device
        )
    tagger.states = recipe.transfer.states
    return tagger


def load_embedder(recipe: Recipe, name: EmbeddingName, device: str, vouchers: Vouchers) -> Embedder:
    """One of the embeddings that a recipe has a table for, from its files or the hub."""
    tables = recipe.embeddings
    if name == "fasttext":
        from backattn.embeddings.fasttext import FastText

        assert tables.fasttext is not None
        return FastText(data_path(tables.fasttext.vectors))
    if name == "charlm":
        from backattn.embeddings.charlm import CharLm

        charlm = tables.charlm
        assert charlm is not None
        batch_tokens = charlm.batch_tokens
        if charlm.hub:
            return CharLm.from_hub(
                charlm.hub, sha256=charlm.sha256, vouchers=vouchers, batch_tokens=batch_tokens, device=device
            )
        return CharLm.load(model_path(charlm.checkpoint), batch_tokens=batch_tokens, device=device)
    from backattn.embeddings.bert import Bert

    assert tables.bert is not None
    return Bert.of(tables.bert, device=device)
