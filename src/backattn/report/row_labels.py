"""What a row of a table says of itself: the keys of the recipe that it has otherwise."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from backattn.common.digests import canonical_json
from backattn.common.nested_dict import flatten
from backattn.common.safe_text import plain
from backattn.recipe import EmbeddingName, TaggerRecipe, as_json
from backattn.report.lineage import StoreLineage
from backattn.report.runs import RunRecord

SHOWN_ID = 12  # letters of a store's id
# What older runs, from before a choice, do not say of their tagger.
_DEFAULTS = {f"tagger.{name}": value for name, value in as_json(TaggerRecipe()).items()}
# A row's own columns say these (its model's name says the inputs, the fusion and the frozen features), or the
# keys that its stores were made with; the rest of a request is told when it varies within a table.
_TOLD = ("seed", "inputs", "sentences", "tagger.sentences", "tagger.epochs", "corpus",
         "tagger.fusion", "tagger.embeddings", "embeddings", "embeddings.", "transfer")  # fmt: skip


def settings_of(
    runs: Sequence[RunRecord], origins: Mapping[str, StoreLineage], reference: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    """What the recipe or, without one, others have otherwise, as ``key=value``: no two rows look the same.

    :param runs: one of each row.
    :param origins: where each store came from, where that is known.
    :param reference: dotted key of the recipe -> value; empty without one.
    """
    flat = _requests(runs)
    told = _untold(_differing(flat))
    settings = [
        (
            # Of the tagger, too, the recipe needs not be told.
            *_said(values, {k for k in told if k not in reference or _several([values, reference], k)}),
            *said,
            *_replaced(run, origins),
        )
        for run, values, said in zip(runs, flat, _store_settings(runs, origins, reference), strict=True)
    ]
    looks: dict[object, list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        looks[run.model, run.sentences, run.epochs, settings[index]].append(index)
    for alike in looks.values():
        # What is left: the same keys of other models (trained anew in their place), or nobody knows the keys.
        rest = _differing([flat[index] for index in alike]) - {"seed"}
        for index in alike:
            settings[index] += tuple(_said(flat[index], rest))
    return settings


def common_settings(runs: Sequence[RunRecord], reference: Mapping[str, Any]) -> tuple[str, ...]:
    """What the tagger of all rows is, where the recipe says otherwise.

    :param runs, reference: as for :func:`settings_of`.
    """
    flat = _requests(runs)
    tagger = {key for key in reference if key.startswith("tagger.")}
    return tuple(
        _said(flat[0], {k for k in _untold(tagger) if _several([*flat, reference], k)} - _differing(flat))
    )


def _requests(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    return [{**_DEFAULTS, **dict(flatten(run.request))} for run in runs]


def _untold(keys: Iterable[str]) -> set[str]:
    return {key for key in keys if not any(_is_told(key, name) for name in _TOLD)}


def _replaced(run: RunRecord, origins: Mapping[str, StoreLineage]) -> list[str]:
    """The store of T, where it is none that its recipe makes now, or nobody knows its recipe."""
    unknown = StoreLineage(current=False if origins else None)
    gone = run.store is not None and origins.get(run.store, unknown).current is False
    return [_setting("transfer", run.store)] if gone else []


def _store_settings(
    runs: Sequence[RunRecord], origins: Mapping[str, StoreLineage], reference: Mapping[str, Any]
) -> list[list[str]]:
    """What each row's stores were made with, where the recipe says otherwise (where rows differ, without)."""
    made: list[dict[str, Any]] = []
    for run in runs:
        known = [origins[store].keys for store in run.stores if store in origins]
        made.append({key: value for keys in known for key, value in keys.items()})
    keys = {key for values in made for key in values}
    told = {key for key in keys if reference or _several([values for values in made if key in values], key)}
    return [
        _said(values, {key for key in told & values.keys() if _several([values, reference], key)})
        for values in made
    ]


def _differing(flat: Sequence[Mapping[str, Any]]) -> set[str]:
    return {key for values in flat for key in values if _several(flat, key)}


def _several(flat: Sequence[Mapping[str, Any]], key: str) -> bool:
    return len({canonical_json(values.get(key)) for values in flat}) > 1


def _said(values: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    return [_setting(key, values.get(key)) for key in sorted(keys)]


def _is_told(key: str, told: str) -> bool:
    return key.startswith(told) if told.endswith(".") else key == told


def _setting(key: str, value: Any) -> str:
    shown = plain(str(value))
    if key == "transfer":
        return f"store={shown[:SHOWN_ID]}"
    if key in (f"embeddings.{name}" for name in get_args(EmbeddingName)):
        return f"{key}={shown[:SHOWN_ID]}"
    return f"{key}={shown}"
