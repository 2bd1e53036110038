"""Trace a store back to the recipe keys and the translator quality that produced it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backattn.common.errors import BackattnError
from backattn.common.json_files import read_table
from backattn.common.nested_dict import flatten
from backattn.corpus import Corpus
from backattn.experiments.alignment import HEADLINE, alignment_path
from backattn.features.plan import make_plan
from backattn.models.training_manifest import MANIFEST
from backattn.recipe import LICENCE, ModelTranslator, Recipe, as_json, from_json, model_path
from backattn.report.runs import TRANSFER, RunRecord
from backattn.tagger.run import RunFolder

# Keys that do not change the numbers of a store, or only describe the form of a file.
_IGNORED = frozenset({"batch_tokens", "training", "sha256", "separator", "order", "first", LICENCE})


@dataclass(frozen=True)
class StoreLineage:
    """Recipe keys and translator quality behind one store.

    :param keys: dotted key of the recipe -> value, for everything that decides the store; empty if no run
        that read it has a readable recipe.
    :param current: whether the recipe beside a run, with the current models, still produces this store; None
        if a model is missing.
    :param bleu: BLEU of the translator, measured by its training; None if unknown.
    :param aer: alignment error rate of A, measured by ``backattn align``; None if unknown.
    """

    keys: Mapping[str, Any] = field(default_factory=dict)
    current: bool | None = None
    bleu: float | None = None
    aer: float | None = None


def store_origins(runs: Sequence[RunRecord]) -> dict[str, StoreLineage]:
    """Find the lineage of each store by its id, from the ``recipe.json`` of the runs that read it.

    Of several runs that read one store, the first with a readable recipe counts. Quality is given only if the
    recipe still produces that store, by the digests of the current models: no store gets the figures of a
    translator that was trained later in the same folder.
    """
    found: dict[str, StoreLineage] = {}
    for run in runs:
        new = {store: name for store, name in run.stores.items() if store not in found}
        recipe = _recipe(run.folder) if new else None
        if recipe is None:
            continue
        keys = recipe_keys(recipe)
        for store, name in new.items():
            own = {key: value for key, value in keys.items() if _made_with(key, name)}
            found[store] = StoreLineage(own, *(_quality(recipe, store) if name == TRANSFER else ()))
    return found


def recipe_keys(recipe: Recipe, *, tagger: bool = False) -> dict[str, Any]:
    """Return dotted key -> value for the recipe keys that decide the numbers of its stores.

    :param tagger: also the keys of the tagger.
    """
    whole = as_json(recipe)
    names = ("translator", "english", "transfer", "embeddings", *(["tagger"] if tagger else []))
    keys = flatten({name: whole[name] for name in names if whole[name] is not None})
    return {key: value for key, value in keys if _IGNORED.isdisjoint(key.split("."))}


def _made_with(key: str, name: str) -> bool:
    """Whether a recipe key decides T, or the embedding of this name."""
    if name == TRANSFER:
        return not key.startswith("embeddings.")
    return key == "embeddings.dtype" or key.startswith(f"embeddings.{name}.")


def _recipe(run: Path) -> Recipe | None:
    try:
        path = RunFolder(run).recipe
        return from_json(read_table(path, ""), str(path))
    except (BackattnError, OSError):
        return None


def _quality(recipe: Recipe, store: str) -> tuple[bool | None, float | None, float | None]:
    """Return whether the recipe still produces a store of T, and its translator's BLEU and AER."""
    try:
        plan = make_plan(recipe, Corpus((), (), ()))  # the id of a store does not depend on the corpus
        current = plan.transfer.recipe_id == store
    except (BackattnError, OSError):
        return None, None, None
    if not (current and isinstance(recipe.translator, ModelTranslator)):
        return current, None, None
    return True, _bleu(recipe.translator), _aer(recipe)


def _bleu(translator: ModelTranslator) -> float | None:
    """Read the BLEU of a translator; None for one of a hub, or without a record of its training."""
    if not translator.checkpoint:
        return None
    return _figure(model_path(translator.checkpoint) / MANIFEST, ("bleu", "score"), 100)


def _aer(recipe: Recipe) -> float | None:
    """Read the alignment error rate of the A that T was made with; None if it was not measured."""
    return _figure(alignment_path(recipe), ("scores", recipe.transfer.attention, HEADLINE, "aer"), 1)


def _figure(path: Path, keys: Sequence[str], most: float) -> float | None:
    """Read a number from 0 to ``most`` from a JSON file; None if it is missing or damaged."""
    try:
        value: Any = read_table(path, "")
        for key in keys:
            value = value[key]
    except (BackattnError, OSError, KeyError, TypeError):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        return None
    return float(value)
