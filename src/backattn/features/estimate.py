"""Estimate how long stage one will take, from the speeds that stores record; no model is loaded.

A speed holds only for the model, settings and device that it was measured with: others may take a hundred
times as long.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backattn.common.errors import MissingError, StoreError
from backattn.features.check import StageStatus
from backattn.features.plan import Plan, Stage, UnfetchedStage
from backattn.recipe import cache_root
from backattn.store.layout import Kind, Origin
from backattn.store.reader import StoreReader

# With fewer sentences, a speed is that of the first batches.
FEWEST_SENTENCES = 100
# Parts of a store's identity that its speed depends on.
_PARTS: Mapping[Kind, tuple[str, ...]] = {
    "translation": ("translator", "model"),
    "transfer": ("english", "model", "transfer.source_states"),
    "embedding": ("embedding", "bert", "charlm", "fasttext", "model"),
}


@dataclass(frozen=True)
class Estimate:
    """The time that the missing sentences of one stage will take, without the loading of the model.

    :param seconds: wall time; None where it is not known.
    :param device: on which it was measured; empty where it is not known.
    :param basis: where the speed was measured, or why it is not known.
    """

    name: str
    seconds: float | None
    device: str
    basis: str

    def to_text(self) -> str:
        """Format the estimate as one line."""
        if self.seconds is None:
            return f"{self.name}: time unknown until {FEWEST_SENTENCES} sentences are done ({self.basis})"
        minutes = f"{self.seconds / 60:.0f} min" if self.seconds >= 90 else f"{self.seconds:.0f} s"
        return (
            f"{self.name}: about {minutes} on {self.device}, and the loading of the model ({self.basis}); "
            "unknown on other devices"
        )


def estimate(plan: Plan, statuses: Iterable[StageStatus], device: str = "auto") -> list[Estimate]:
    """Estimate each stage that has missing sentences.

    :param device: value of ``--device``. torch, which knows the name of a GPU, is not imported to resolve it:
        ``auto`` takes the device that was measured last, and any value but ``cpu`` the GPU measured last.
    """
    stages = {stage.name: stage for stage in plan.outlook}
    return [_estimate(stages[status.name], status, device) for status in statuses if status.missing]


def _estimate(stage: Stage | UnfetchedStage, status: StageStatus, device: str) -> Estimate:
    if isinstance(stage, UnfetchedStage):
        return Estimate(stage.name, None, "", "its model is not fetched yet")
    work: dict[str, _Work] = {}
    for origin, sentences in _origins(stage):
        on_cpu = origin.device.partition(",")[0] == "cpu"  # "cpu, bfloat16"
        if device == "auto" or on_cpu == (device == "cpu"):
            work[origin.device] = work.get(origin.device, _Work()).after(origin, sentences)
    known = {name: own for name, own in work.items() if own.sentences >= FEWEST_SENTENCES and own.seconds > 0}
    if not known:
        where = f" on {device}" if device != "auto" else ""
        done = max((own.sentences for own in work.values()), default=0)
        return Estimate(stage.name, None, "", f"{done} so far with this model and these settings{where}")
    name, last = max(known.items(), key=lambda item: item[1].started)
    speed = last.tokens / last.seconds
    measured = f"over {last.sentences} sentences with this model, last in the run of {last.started}"
    basis = f"{speed:.0f} tokens/s {measured}"
    return Estimate(stage.name, status.missing_tokens / speed, name, basis)


@dataclass(frozen=True)
class _Work:
    """The work that was done on one device; ``started`` is the start of the last run."""

    sentences: int = 0
    tokens: int = 0
    seconds: float = 0.0
    started: str = ""

    def after(self, origin: Origin, sentences: int) -> "_Work":
        return _Work(
            self.sentences + sentences,
            self.tokens + origin.tokens,
            self.seconds + origin.seconds,
            max(self.started, origin.started),
        )


def _origins(stage: Stage) -> Iterator[tuple[Origin, int]]:
    """Iterate over the runs that computed with the stage's model, in any cache, and their sentences."""
    wanted = _speed_parts(stage.kind, stage.recipe)
    folder = f"*/{stage.name}"
    seen: set[tuple[str, int, float]] = set()
    for path in [*cache_root().glob(f"{folder}/*.h5"), *cache_root().glob(f"{folder}/*.shards/*.h5")]:
        try:
            store = StoreReader(path)
            if store.kind != stage.kind or _speed_parts(stage.kind, store.recipe) != wanted:
                continue
            found = [(store.origins[name], count) for name, count in store.origin_sentences.items()]
        except (StoreError, MissingError):
            continue
        for origin, count in found:
            work = (origin.id, origin.tokens, origin.seconds)
            if work not in seen:  # a store may have been copied
                seen.add(work)
                yield origin, count


def _speed_parts(kind: Kind, recipe: Mapping[str, Any]) -> list[Any]:
    found = []
    for key in _PARTS[kind]:
        value: Any = recipe
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        found.append(value)
    return found
