"""Stage one as one call: plan, load what is needed, bring both stores up to date."""

from dataclasses import dataclass

from backattn.device import device_name
from backattn.features.build import Built, build_transfers, build_translations
from backattn.features.english.flair import FlairTagger
from backattn.features.plan import Plan
from backattn.features.translation.fairseq import FairseqTranslator
from backattn.recipe import Recipe, model_path
from backattn.store.reader import StoreReader


@dataclass(frozen=True)
class Features:
    """What stage one did, store by store."""

    translation: Built
    transfer: Built


def make_features(recipe: Recipe, plan: Plan, *, device: str, trust: bool = False) -> Features:
    """Compute what is missing of the translation store, then of the transfer store.

    :param device: ``cpu`` or ``cuda``; it does not change a store's identity.
    :param trust: open an English tagger that has no pinned digest.
    """
    words = device_name(device)
    translation = build_translations(plan.translation, lambda: load_translator(recipe, device), words)
    transfer = build_transfers(
        plan.transfer,
        StoreReader(plan.translation.path),
        recipe.transfer,
        lambda: load_english_tagger(recipe, device, trust=trust),
        words,
    )
    return Features(translation, transfer)


def load_translator(recipe: Recipe, device: str) -> FairseqTranslator:
    """The translator of a recipe, from its folder or the hub."""
    translator = recipe.translator
    if translator.hub:
        return FairseqTranslator.from_hub(translator, device=device)
    return FairseqTranslator.load(model_path(translator.checkpoint), translator, device=device)


def load_english_tagger(recipe: Recipe, device: str, *, trust: bool) -> FlairTagger:
    """The English tagger of a recipe, from its file or the hub."""
    english = recipe.english
    batch_tokens = english.batch_tokens
    if english.hub:
        return FlairTagger.from_hub(
            english.hub, sha256=english.sha256, trust=trust, batch_tokens=batch_tokens, device=device
        )
    return FlairTagger.load(
        model_path(english.checkpoint),
        sha256=english.sha256,
        trust=trust,
        batch_tokens=batch_tokens,
        device=device,
    )
