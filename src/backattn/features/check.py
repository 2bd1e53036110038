"""Is the cache what this corpus and this recipe ask for? Loads no torch, no model, no big file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backattn.common.errors import MissingError, StoreError, UnreadableError
from backattn.common.nested_dict import differences
from backattn.features.plan import Plan, Stage
from backattn.store.reader import StoreReader

_SHOWN = 3  # missing sentences that a status quotes


@dataclass(frozen=True)
class StageStatus:
    """What is to be said of one store.

    :param name: as :attr:`Stage.name <backattn.features.plan.Stage>`.
    :param state: ``fresh``; ``stale``: some sentences are missing; ``missing``: there is no such store;
        ``corrupt``: there is a file, and it is not the store that was written.
    :param missing: sentences that have to be computed.
    :param missing_tokens: their source tokens.
    :param extra: sentences that the corpus no longer has; ``backattn gc`` takes them out.
    :param reasons: one line each: which sentences, which part of the recipe, old and new value.
    """

    kind: str
    name: str
    path: str
    state: Literal["fresh", "stale", "missing", "corrupt"]
    sentences: int
    missing: int
    missing_tokens: int
    extra: int
    reasons: tuple[str, ...]
    counts: Mapping[str, int]

    @property
    def exit_status(self) -> int:
        """Of ``backattn check``: 0 fresh, 1 stale or missing, 2 corrupt."""
        return {"fresh": 0, "corrupt": 2}.get(self.state, 1)


def check(plan: Plan, *, deep: bool = False) -> tuple[StageStatus, ...]:
    """Compare the stores with the plan.

    :param deep: read and verify every byte.
    """
    return tuple(_status(stage, deep) for stage in plan.stages)


def refuse_corrupt(statuses: tuple[StageStatus, ...]) -> None:
    """Stop before anything is built upon a corrupt store.

    :raises StoreError: says which, where, and what rebuilds it.
    """
    for status in statuses:
        if status.state == "corrupt":
            raise StoreError("; ".join(status.reasons))


def _status(stage: Stage, deep: bool) -> StageStatus:
    try:
        store = stage.open()
        if store is not None and deep:
            store.verify()
    except UnreadableError:
        raise
    except StoreError as error:
        return _of(stage, "corrupt", None, (str(error),))
    if store is None:
        return _of(stage, "missing", None, tuple(_changes(stage)))
    missing = stage.missing(store)
    reasons = [f"sentence not in the store: {' '.join(s.tokens)}" for s in missing[:_SHOWN]]
    if len(missing) > _SHOWN:
        reasons.append(f"... and {len(missing) - _SHOWN} more sentences")
    return _of(stage, "stale" if missing else "fresh", store, tuple(reasons))


def _of(
    stage: Stage,
    state: Literal["fresh", "stale", "missing", "corrupt"],
    store: StoreReader | None,
    reasons: tuple[str, ...],
) -> StageStatus:
    missing = stage.missing(store)
    kept = len(stage.sentences) - len(missing)
    return StageStatus(
        kind=stage.kind,
        name=stage.name,
        path=str(stage.path),
        state=state,
        sentences=len(stage.sentences),
        missing=len(missing),
        missing_tokens=sum(map(len, missing)),
        extra=0 if store is None else store.sentences - kept,
        reasons=reasons,
        counts={} if store is None else store.counts,
    )


def _changes(stage: Stage) -> Iterator[str]:
    """Against the most similar store of another recipe: which parts differ, old and new."""
    candidates = []
    refused = []
    for path in sorted(stage.path.parent.glob("*.h5")):
        try:
            candidates.append((list(differences(StoreReader(path).recipe, stage.recipe)), path.name))
        except (StoreError, MissingError) as error:  # only the store that is asked for has to be whole
            refused.append(str(error))
    if not candidates:
        yield "there is no store yet"
        yield from refused
        return
    changed, name = min(candidates, key=lambda candidate: (len(candidate[0]), candidate[1]))
    for key, old, new in changed:
        yield f"{key}: {_told(old)} in {name}, {_told(new)} now"


def _told(value: Any) -> str:
    return "not named" if value is None else repr(value)
