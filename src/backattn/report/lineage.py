"""Store that runs read -> where it came from: keys of the recipe, and how good its translator is."""

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
from backattn.recipe import ModelTranslator, Recipe, as_json, from_json, model_path
from backattn.report.runs import TRANSFER, RunRecord
from backattn.tagger.run import RunFolder

# Keys that leave a store's numbers alone, or say how a file is written.
_UNTOLD = frozenset({"batch_tokens", "training", "sha256", "separator", "order", "first"})


@dataclass(frozen=True)
class StoreLineage:
    """Where the vectors of one store came from.

    :param keys: dotted key of the recipe -> value, of all that the store was made with; empty where no run
        that read it says so.
    :param current: whether the recipe that a run of it keeps still makes this very store, of the models that
        lie there now; None where that cannot be told, because a model is not at hand.
    :param bleu: of the translator behind T, as its training measured it; None where that is not known.
    :param aer: alignment error rate of the A in T, as ``backattn align`` measured it; None where that is not
        known.
    """

    keys: Mapping[str, Any] = field(default_factory=dict)
    current: bool | None = None
    bleu: float | None = None
    aer: float | None = None


def store_origins(runs: Sequence[RunRecord]) -> dict[str, StoreLineage]:
    """The origin of each store by its id, from the recipes that the runs keep beside them.

    Where two runs read one store, the first whose recipe can be read speaks: so that one store never has two
    origins. Quality is told only where the recipe still names that very store, by the digests of the models
    that lie there now: so no store gets the figures of a translator that was trained in its place.
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
    """Dotted key -> value of all that the stores of a recipe are made with.

    :param tagger: and of what its taggers are.
    """
    whole = as_json(recipe)
    names = ("translator", "english", "transfer", "embeddings", *(["tagger"] if tagger else []))
    keys = flatten({name: whole[name] for name in names if whole[name] is not None})
    return {key: value for key, value in keys if _UNTOLD.isdisjoint(key.split("."))}


def _made_with(key: str, name: str) -> bool:
    """Is a key of the recipe one of those behind T, or behind the embedding of this name?"""
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
    """Whether a store of T is what the recipe makes now; BLEU and alignment error rate of its translator."""
    plan = make_plan(recipe, Corpus((), (), ()))  # a store's name asks for no corpus
    try:
        current = plan.transfer.recipe_id == store
    except (BackattnError, OSError):
        return None, None, None
    if not (current and isinstance(recipe.translator, ModelTranslator)):
        return current, None, None
    return True, _bleu(recipe.translator), _aer(recipe)


def _bleu(translator: ModelTranslator) -> float | None:
    """None for a hub's translator, and where its folder is without figures."""
    if not translator.checkpoint:
        return None
    return _figure(model_path(translator.checkpoint) / MANIFEST, ("bleu", "score"), 100)


def _aer(recipe: Recipe) -> float | None:
    """Of the A that T was made with; nobody measures the uniform one."""
    return _figure(alignment_path(recipe), ("scores", recipe.transfer.attention, HEADLINE, "aer"), 1)


def _figure(path: Path, keys: Sequence[str], most: float) -> float | None:
    """A number of a JSON file, at least 0; None where there is none, or the file is damaged."""
    try:
        value: Any = read_table(path, "")
        for key in keys:
            value = value[key]
    except (BackattnError, OSError, KeyError, TypeError):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        return None
    return float(value)
