"""Check whether stores match a corpus and a recipe. Imports no torch, opens no model, reads no big array."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backattn.common.errors import MissingError, StoreError, UnreadableError
from backattn.common.nested_dict import differences
from backattn.features.plan import Plan, Stage, UnfetchedStage
from backattn.store.reader import StoreReader

_MAX_SHOWN = 3  # missing sentences that a status quotes
_NO_STORE = "there is no store yet"


@dataclass(frozen=True)
class StageStatus:
    """The state of one store.

    :param name: as :attr:`Stage.name <backattn.features.plan.Stage>`.
    :param state: ``fresh``; ``stale``: some sentences are missing; ``missing``: the file does not exist;
        ``corrupt``: the file is not the store that was written.
    :param missing: number of sentences that have to be computed.
    :param missing_tokens: number of their source tokens.
    :param extra: number of sentences that the corpus no longer has; ``backattn gc`` removes them.
    :param reasons: one line each: a missing sentence, or a changed part of the recipe with old and new value.
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
        """Exit status of ``backattn check``: 0 fresh, 1 stale or missing, 2 corrupt."""
        return {"fresh": 0, "corrupt": 2}.get(self.state, 1)


def check(plan: Plan, *, deep: bool = False) -> tuple[StageStatus, ...]:
    """Compare the stores with the plan.

    :param deep: read and verify every byte.
    """
    return tuple(
        _status(stage, deep) if isinstance(stage, Stage) else _unfetched_status(stage)
        for stage in plan.outlook
    )


def new_identities(plan: Plan) -> Iterator[str]:
    """Yield a line for each store that a run would begin beside a similar one: what differs in the recipe."""
    for stage in plan.stages:
        if not stage.path.exists() and not stage.shards.exists():
            changes = [change for change in _changes(stage) if change != _NO_STORE]
            if changes:
                yield f"{stage.name}: begins a new store, {stage.path.name}: {'; '.join(changes)}"


def refuse_corrupt(statuses: tuple[StageStatus, ...]) -> None:
    """Refuse to go on with a corrupt store.

    :raises StoreError: a store is corrupt; names the file and what rebuilds it.
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
        return _make_status(stage, "corrupt", None, (str(error),))
    if store is None:
        return _make_status(stage, "missing", None, tuple(_changes(stage)))
    missing = stage.missing(store)
    reasons = [f"sentence not in the store: {' '.join(s.tokens)}" for s in missing[:_MAX_SHOWN]]
    if len(missing) > _MAX_SHOWN:
        reasons.append(f"... and {len(missing) - _MAX_SHOWN} more sentences")
    if missing:
        reasons += _trial(stage, store)
    return _make_status(stage, "stale" if missing else "fresh", store, tuple(reasons))


def _trial(stage: Stage, store: StoreReader) -> Iterator[str]:
    """Yield a line for each split of which the last run computed the first sentences only."""
    for split, facts in stage.corpora.items():
        before = store.attributes["corpora"].get(split, {})
        count, whole = before.get("sentences"), facts["sentences"]
        if before.get("sha256") == facts["sha256"] and isinstance(count, int) and count < whole:
            yield f"{split}: last made for its first {count:,} of {whole:,} sentences (features --sentences)"


def _unfetched_status(stage: UnfetchedStage) -> StageStatus:
    """The status of a store whose name is not known yet; ``path`` is empty."""
    count, tokens = len(stage.sentences), sum(map(len, stage.sentences))
    return StageStatus(
        stage.kind, stage.name, "", "missing", count, count, tokens, 0, (stage.reason,), counts={}
    )


def _make_status(
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
    """Compare with the most similar store of another recipe: which keys differ, old and new value."""
    candidates = []
    refused = []
    unfinished = (next(folder.glob("*.h5"), None) for folder in sorted(stage.path.parent.glob("*.shards")))
    for path in [*sorted(stage.path.parent.glob("*.h5")), *filter(None, unfinished)]:
        try:
            name = path.name if path.parent == stage.path.parent else path.parent.name
            candidates.append((list(differences(StoreReader(path).recipe, stage.recipe)), name))
        except (StoreError, MissingError) as error:  # stores of other recipes need not be intact
            refused.append(str(error))
    if not candidates:
        yield _NO_STORE
        yield from refused
        return
    changed, name = min(candidates, key=lambda candidate: (len(candidate[0]), candidate[1]))
    for key, old, new in changed:
        yield f"{key}: {_shown(old)} in {name}, {_shown(new)} now"


def _shown(value: Any) -> str:
    return "not named" if value is None else repr(value)
