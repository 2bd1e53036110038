"""Compute shards in actors of a Ray cluster, each with models of its own.

An actor returns the bytes of its shard. The driver writes them to a partial file, checks that, and renames
it. So the nodes need the models and the package, but no common file system.
"""

from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from backattn.cluster import Cluster, Compute
from backattn.common.device import device_name
from backattn.features.engines.shard import ShardTask, ShardWork, ShardWorker, receive_shard


@dataclass(frozen=True)
class RayEngine:
    """Hands the next shard to the first actor that is idle.

    :param cluster: open, for as long as shards are computed.
    """

    cluster: Cluster

    def run(self, work: ShardWork, tasks: Sequence[ShardTask]) -> Generator[Path]:
        """Compute the shards; as :class:`~backattn.features.engines.shard.Engine` says.

        :raises BackattnError: an actor's error, or actors die again and again.
        """
        load = _Load(work, self.cluster.device)
        with closing(self.cluster.run(load, deque(tasks))) as answers:
            for answer in answers:
                yield receive_shard(answer.result(), work, answer.task, f"the node {answer.node}")


@dataclass(frozen=True)
class _Load:
    """Loads the models in an actor; they must have the digests of the driver's."""

    work: ShardWork
    device: str

    def __call__(self) -> Compute:
        return ShardWorker(self.work, device_name(self.device)).compute_bytes
