"""Compute shards in several processes of this machine, each with models of its own.

The commonest use: one worker for each GPU. A worker that is killed is replaced, and its shard is handed out
again; the others go on.
"""

import os
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

from backattn.common.device import threads_of_torch
from backattn.common.errors import BackattnError
from backattn.common.jobs import MOST_DEATHS, Worker, start_server, tell_death
from backattn.features.engines.shard import ShardTask, ShardWork, ShardWorker

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class ProcessesEngine:
    """Starts workers, and hands the next shard to the first one that is idle.

    :param workers: number of workers.
    :param threads: CPU threads of torch in each of them.
    :param gpus: number of GPUs that they share: worker i takes GPU i; 0 if they compute on the CPU.
    """

    workers: int
    threads: int
    gpus: int = 0

    def run(self, work: ShardWork, tasks: Sequence[ShardTask]) -> Generator[Path]:
        """Compute the shards; as :class:`~backattn.features.engines.shard.Engine` says.

        :raises BackattnError: a worker's error; or one shard has killed several workers.
        """
        waiting, deaths = deque(tasks), Counter[str]()
        count = min(self.workers, len(tasks))
        if count:
            start_server(("backattn.features.pipeline",))
        workers = [self._start(work, number) for number in range(count)]
        idle, busy = deque(range(count)), dict[Connection, tuple[int, ShardTask]]()
        try:
            while waiting or busy:
                while waiting and idle:
                    number, task = idle.popleft(), waiting.popleft()
                    workers[number].begin(task.packed())
                    busy[workers[number].pipe] = number, task
                for pipe in wait(list(busy)):
                    number, task = busy.pop(cast(Connection, pipe))
                    try:
                        error = workers[number].pipe.recv()
                    except (EOFError, ConnectionResetError):
                        how = workers[number].how_it_ended()
                        deaths[task.name] += 1
                        if deaths[task.name] == MOST_DEATHS:
                            raise _deadly(how) from None
                        tell_death("this machine", how)
                        workers[number] = self._start(work, number)
                        waiting.appendleft(task)
                    else:
                        if error is not None:
                            raise error
                        yield work.folder / task.name
                    idle.append(number)
        finally:
            for worker in workers:
                worker.end()

    def _start(self, work: ShardWork, number: int) -> Worker:
        return Worker(_Service(work, self.threads, _gpu(number, self.gpus)))


def _deadly(how: str) -> BackattnError:
    return BackattnError(
        f"the process of a worker was {how}, {MOST_DEATHS} times at the same shard; is there enough memory "
        "for so many --workers? run the same command again with fewer: it goes on from what is finished"
    )


def _gpu(number: int, gpus: int) -> str:
    """Name the GPU of a worker, among those that this process may use; empty for the CPU."""
    visible = os.environ.get(_VISIBLE, "")
    names = visible.split(",") if visible else list(map(str, range(gpus)))
    return names[number % gpus] if gpus else ""


@dataclass(frozen=True)
class _Service:
    """The work of one worker; it is pickled before the first task, and loads its model there."""

    work: ShardWork
    threads: int
    gpu: str

    def __getstate__(self) -> dict[str, Any]:
        return {"work": self.work, "threads": self.threads, "gpu": self.gpu}

    @cached_property
    def _worker(self) -> ShardWorker:
        if self.gpu:  # read when CUDA is initialised, which is later
            os.environ[_VISIBLE] = self.gpu
        return ShardWorker(self.work)

    def __call__(self, task: ShardTask) -> None:
        """Compute one shard."""
        with threads_of_torch(self.threads):
            self._worker.compute(task)
