"""Estimate how long stage one will take, from the speeds that stores record; no model is loaded."""

from collections.abc import Iterable
from dataclasses import dataclass

from backattn.common.errors import MissingError, StoreError
from backattn.features.check import StageStatus
from backattn.features.plan import Plan, Stage
from backattn.recipe import cache_root
from backattn.store.layout import Origin
from backattn.store.reader import StoreReader

# Source tokens a second on one core of an x86 server, for a cache that has no store yet: a 7 M-parameter
# fconv translator at beam 4; a BiLSTM tagger of 256 states with word and character features; a file of
# vectors in memory; character models of 512 states; a BERT of 12 layers of 768.
_DEFAULT_SPEEDS = {
    "translation": 1300.0,
    "transfer": 7000.0,
    "embeddings/fasttext": 20000.0,
    "embeddings/charlm": 1000.0,
    "embeddings/bert": 300.0,
}


@dataclass(frozen=True)
class Estimate:
    """The time that the missing sentences of one stage will take, without the loading of the model.

    :param seconds: wall time.
    :param basis: where the speed was measured.
    """

    name: str
    seconds: float
    basis: str

    def to_text(self) -> str:
        """Format the estimate as one line."""
        minutes = f"{self.seconds / 60:.0f} min" if self.seconds >= 90 else f"{self.seconds:.0f} s"
        return f"{self.name}: about {minutes}, and the loading of the model ({self.basis})"


def estimate(plan: Plan, statuses: Iterable[StageStatus]) -> list[Estimate]:
    """Estimate each stage that has missing sentences."""
    stages = {stage.name: stage for stage in plan.stages}
    return [_estimate(stages[status.name], status) for status in statuses if status.missing]


def _estimate(stage: Stage, status: StageStatus) -> Estimate:
    measured = [origin for origin in _origins(stage) if origin.tokens and origin.seconds > 0]
    if not measured:
        basis = "a rough figure of another machine's core, nothing has been computed in this cache yet"
        return Estimate(stage.name, status.missing_tokens / _DEFAULT_SPEEDS[stage.name], basis)
    last = max(measured, key=lambda origin: origin.started)
    speed = last.tokens / last.seconds
    basis = f"{speed:.0f} tokens/s on {last.device}, measured {last.started}"
    return Estimate(stage.name, status.missing_tokens / speed, basis)


def _origins(stage: Stage) -> list[Origin]:
    """List the runs that computed this store so far; if there are none, those of any store of its kind."""
    for paths in (
        [stage.path, *stage.shards.glob("*.h5")],
        stage.path.parent.glob("*.h5"),
        cache_root().glob(f"*/{stage.name}/*.h5"),
    ):
        found: list[Origin] = []
        for path in paths:
            try:
                found += StoreReader(path).origins.values()
            except (StoreError, MissingError):
                continue
        if found:
            return found
    return []
