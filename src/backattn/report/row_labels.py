"""Label the rows of a table by the recipe keys in which they differ from the recipe or from each other."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from backattn.common.digests import canonical_json
from backattn.common.nested_dict import flatten
from backattn.common.safe_text import plain
from backattn.recipe import EmbeddingName
from backattn.recipe.presets import PRESETS
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

    A key is in the label where its value differs from the recipe's or, without a recipe, between rows. A row
    that a preset describes in as few words is labelled ``preset=NAME`` and the keys that differ from that.

    :param runs: one run of each row.
    :param origins: lineage of each store, if known.
    :param reference: dotted key of the recipe -> value; empty without a recipe.
    """
    flat = _requests(runs)
    varying = _without_shown(_varying(flat))
    made = _made_with(runs, origins)
    settings = [
        (*(_by_preset(values, stores, reference, varying) or labels), *_stale_store(run, origins))
        for run, values, stores, labels in zip(
            runs, flat, made, _by_keys(flat, made, reference, varying), strict=True
        )
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
            flat[0],
            {k for k in _without_shown(tagger & flat[0].keys()) if _differs([*flat, reference], k)}
            - _varying(flat),
        )
    )


def _requests(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return the keys of each request that its run reads, dotted."""
    found = [dict(flatten(run.request)) for run in runs]
    for run, values in zip(runs, found, strict=True):
        if run.inputs == "words" and not run.facts.tagger.embeddings:
            values.pop("tagger.standardise", None)
    return found


def _by_keys(
    flat: Sequence[Mapping[str, Any]],
    made: Sequence[Mapping[str, Any]],
    reference: Mapping[str, Any],
    varying: set[str],
) -> list[list[str]]:
    """Label each row with its keys, and those behind its stores, that differ from the recipe or vary."""
    shared = {key for values in made for key in values}
    shown = {key for key in shared if reference or _differs([v for v in made if key in v], key)}
    return [
        [
            *_labels(
                values,
                {
                    key
                    for key in varying & values.keys()
                    if key not in reference or _differs([values, reference], key)
                },
            ),
            *_labels(stores, {key for key in shown & stores.keys() if _differs([stores, reference], key)}),
        ]
        for values, stores in zip(flat, made, strict=True)
    ]


def _by_preset(
    values: Mapping[str, Any], stores: Mapping[str, Any], reference: Mapping[str, Any], varying: set[str]
) -> list[str]:
    """Label a row by a preset of the recipe; empty where the label without a preset is shorter."""
    if not reference:
        return []
    tagger = _without_shown(key for key in reference.keys() & values.keys() if key.startswith("tagger."))

    def labels(against: Mapping[str, Any]) -> list[str]:
        keys = {key for key in tagger if _differs([values, against], key)}
        return [
            *_labels(values, keys | (varying & values.keys()) - reference.keys()),
            *_labels(stores, {key for key in stores if _differs([stores, against], key)}),
        ]

    # Only presets with the row's fusion: labels leave the fusion out, so they could not show a difference.
    named = [
        [f"preset={name}", *labels({**reference, **preset})]
        for name, preset in sorted(PRESETS.items())
        if preset["tagger.fusion"] == values.get("tagger.fusion")
    ]
    nearest = min(named, key=len, default=[])
    return nearest if nearest and len(nearest) <= len(labels(reference)) else []


def _without_shown(keys: Iterable[str]) -> set[str]:
    return {key for key in keys if not any(_matches(key, name) for name in _SHOWN_ELSEWHERE)}


def _stale_store(run: RunRecord, origins: Mapping[str, StoreLineage]) -> list[str]:
    """Return the store of T if the recipe of its run no longer produces it, or if that is unknown."""
    unknown = StoreLineage(current=False if origins else None)
    stale = run.store is not None and origins.get(run.store, unknown).current is False
    return [_label("transfer", run.store)] if stale else []


def _made_with(runs: Sequence[RunRecord], origins: Mapping[str, StoreLineage]) -> list[dict[str, Any]]:
    """The keys behind the stores of each row, as far as they are known."""
    made: list[dict[str, Any]] = []
    for run in runs:
        known = [origins[store].keys for store in run.stores if store in origins]
        made.append({key: value for keys in known for key, value in keys.items()})
    return made


def _varying(flat: Sequence[Mapping[str, Any]]) -> set[str]:
    """The keys that differ between the rows that have them."""
    keys = {key for values in flat for key in values}
    return {key for key in keys if _differs([values for values in flat if key in values], key)}


def _differs(flat: Sequence[Mapping[str, Any]], key: str) -> bool:
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
