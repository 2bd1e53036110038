"""Is the cache what this corpus and this recipe ask for? Loads no torch, no model, no big file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backattn.errors import StoreError
from backattn.features.plan import Plan, Stage
from backattn.store.reader import StoreReader

_SHOWN = 3  # missing sentences that a status quotes


@dataclass(frozen=True)
class StageStatus:
    """What is to be said of one store.

    :param state: ``fresh``; ``stale``: some sentences are missing; ``missing``: there is no such store.
    :param missing: sentences that have to be computed.
    :param extra: sentences that the corpus no longer has; they go at the next join.
    :param reasons: one line each: which sentences, which part of the recipe, old and new value.
    """

    kind: str
    path: str
    state: Literal["fresh", "stale", "missing"]
    sentences: int
    missing: int
    extra: int
    reasons: tuple[str, ...]
    counts: Mapping[str, int]


def check(plan: Plan, *, deep: bool = False) -> tuple[StageStatus, StageStatus]:
    """Compare both stores with the plan.

    :param deep: read and verify every byte.
    :raises StoreError: a store is corrupt; says where.
    """
    return _status(plan.translation, deep), _status(plan.transfer, deep)


def _status(stage: Stage, deep: bool) -> StageStatus:
    store = stage.open()
    if store is None:
        total = len(stage.sentences)
        return StageStatus(
            stage.kind, str(stage.path), "missing", total, total, 0, tuple(_changes(stage)), {}
        )
    if store.recipe_id != stage.recipe_id:
        raise StoreError(
            f"{stage.path}: holds recipe {store.recipe_id}, its name says {stage.recipe_id}; "
            "files were swapped: delete it, then `backattn features` makes it anew"
        )
    if deep:
        store.verify()
    missing = stage.missing(store)
    extra = store.sentences - (len(stage.sentences) - len(missing))
    reasons = [f"sentence not in the store: {' '.join(s.tokens)}" for s in missing[:_SHOWN]]
    if len(missing) > _SHOWN:
        reasons.append(f"... and {len(missing) - _SHOWN} more sentences")
    return StageStatus(
        kind=stage.kind,
        path=str(stage.path),
        state="stale" if missing else "fresh",
        sentences=len(stage.sentences),
        missing=len(missing),
        extra=extra,
        reasons=tuple(reasons),
        counts=store.counts,
    )


def _changes(stage: Stage) -> Iterator[str]:
    """Against the most similar store of another recipe: which parts differ, old and new."""
    candidates = []
    for path in stage.path.parent.glob("*.h5"):
        try:
            candidates.append((_differences(StoreReader(path).recipe, stage.recipe), path.name))
        except StoreError:
            continue  # only the store that is asked for has to be whole
    if not candidates:
        yield "there is no store yet"
        return
    differences, name = min(candidates, key=lambda candidate: (len(candidate[0]), candidate[1]))
    for key, old, new in differences:
        yield f"{key}: {old!r} in {name}, {new!r} now"


def _differences(old: Any, new: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            difference
            for name in sorted({*old, *new})
            for difference in _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
        ]
    return [] if old == new else [(key, old, new)]
