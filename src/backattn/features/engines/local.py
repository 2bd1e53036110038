"""Compute shards in this process, one after the other."""

from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from backattn.common.device import threads_of_torch
from backattn.features.engines.shard import ShardTask, ShardWork, ShardWorker


@dataclass(frozen=True)
class LocalEngine:
    """Loads the model here.

    :param threads: CPU threads of torch; None leaves them as they are.
    """

    threads: int | None = None

    def run(self, work: ShardWork, tasks: Sequence[ShardTask]) -> Generator[Path]:
        """Compute the shards in their order; as :class:`~backattn.features.engines.shard.Engine` says."""
        if not tasks:
            return
        with nullcontext() if self.threads is None else threads_of_torch(self.threads):
            yield from map(ShardWorker(work).compute, tasks)
