"""Label the rows of a table by the recipe keys in which they differ from the recipe or from each other."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from backattn.common.digests import canonical_json
from backattn.common.nested_dict import flatten
from backattn.common.safe_text import plain
from backattn.recipe import EmbeddingName
from backattn.report.lineage import StoreLineage
from backattn.report.runs import RunRecord

SHOWN_ID = 12  # letters of a store's id
# Keys that a label leaves out: other columns show them (the name of the model shows the inputs, the fusion
# and the frozen features), or the keys behind the stores do. Any other key that varies is in the label.
_SHOWN_ELSEWHERE = ("seed", "inputs", "sentences", "tagger.sentences", "tagger.epochs", "corpus",
         "tagger.fusion", "tagger.embeddings", "embeddings", "embeddings.", "transfer")  # fmt: skip


def settings_of(
    runs: Sequence[RunRecord], origins: Mapping[str, StoreLineage], reference: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    """Label each row with ``key=value`` texts; no two rows of a table look the same.

    A key is in the label where its value differs from the recipe's or, without a recipe, between rows.

    :param runs: one run of each row.
    :param origins: lineage of each store, if known.
    :param reference: dotted key of the recipe -> value; empty without a recipe.
    """
    flat = _requests(runs)
    varying = _without_shown(_varying(flat))
    settings = [
        (
            *_labels(values, {k for k in varying if k not in reference or _several([values, reference], k)}),
            *of_stores,
            *_stale_store(run, origins),
        )
        for run, values, of_stores in zip(runs, flat, _store_settings(runs, origins, reference), strict=True)
    ]
    looks: dict[object, list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        looks[run.model, run.sentences, run.epochs, settings[index]].append(index)
    for alike in looks.values():
        # Rows still alike: models trained again under the same keys, or stores whose keys are unknown.
        rest = _varying([flat[index] for index in alike]) - {"seed"}
        for index in alike:
            settings[index] += tuple(_labels(flat[index], rest))
    return settings


def common_settings(runs: Sequence[RunRecord], reference: Mapping[str, Any]) -> tuple[str, ...]:
    """Label the tagger keys in which all rows share a value that is not the recipe's.

    :param runs, reference: as for :func:`settings_of`.
    """
    flat = _requests(runs)
    tagger = {key for key in reference if key.startswith("tagger.")}
    return tuple(
        _labels(
            flat[0], {k for k in _without_shown(tagger) if _several([*flat, reference], k)} - _varying(flat)
        )
    )


def _requests(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    return [dict(flatten(run.request)) for run in runs]


def _without_shown(keys: Iterable[str]) -> set[str]:
    return {key for key in keys if not any(_matches(key, name) for name in _SHOWN_ELSEWHERE)}


def _stale_store(run: RunRecord, origins: Mapping[str, StoreLineage]) -> list[str]:
    """Return the store of T if the recipe of its run no longer produces it, or if that is unknown."""
    unknown = StoreLineage(current=False if origins else None)
    stale = run.store is not None and origins.get(run.store, unknown).current is False
    return [_label("transfer", run.store)] if stale else []


def _store_settings(
    runs: Sequence[RunRecord], origins: Mapping[str, StoreLineage], reference: Mapping[str, Any]
) -> list[list[str]]:
    """Label each row with the keys behind its stores that differ from the recipe or, without one, vary."""
    made: list[dict[str, Any]] = []
    for run in runs:
        known = [origins[store].keys for store in run.stores if store in origins]
        made.append({key: value for keys in known for key, value in keys.items()})
    keys = {key for values in made for key in values}
    shown = {key for key in keys if reference or _several([values for values in made if key in values], key)}
    return [
        _labels(values, {key for key in shown & values.keys() if _several([values, reference], key)})
        for values in made
    ]


def _varying(flat: Sequence[Mapping[str, Any]]) -> set[str]:
    return {key for values in flat for key in values if _several(flat, key)}


def _several(flat: Sequence[Mapping[str, Any]], key: str) -> bool:
    return len({canonical_json(values.get(key)) for values in flat}) > 1


def _labels(values: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    return [_label(key, values.get(key)) for key in sorted(keys)]


def _matches(key: str, name: str) -> bool:
    return key.startswith(name) if name.endswith(".") else key == name


def _label(key: str, value: Any) -> str:
    shown = plain(str(value))
    if key == "transfer":
        return f"store={shown[:SHOWN_ID]}"
    if key in (f"embeddings.{name}" for name in get_args(EmbeddingName)):
        return f"{key}={shown[:SHOWN_ID]}"
    return f"{key}={shown}"
