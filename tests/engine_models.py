"""Models for tests of the engines: a worker in another process can load them, and some of them go wrong."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backattn.common.errors import ModelError
from backattn.translation import Translation
from fakes import FakeTranslator


@dataclass(frozen=True)
class Traced:
    """Loads a fake translator, and leaves a file for each load and each shard.

    :param deaths: so often the word "deadly" kills the process that translates it.
    :param pause: seconds that a shard takes.
    """

    folder: Path
    deaths: int = 0
    pause: float = 0.0

    def __call__(self) -> "TracedTranslator":
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"load-{os.getpid()}").touch()
        return TracedTranslator(self)

    @property
    def loads(self) -> int:
        """How often a model was loaded."""
        return len(list(self.folder.glob("load-*")))

    @property
    def shards(self) -> int:
        """How many shards were begun."""
        return len(list(self.folder.glob("shard-*")))


class TracedTranslator(FakeTranslator):
    """Leaves traces."""

    def __init__(self, traced: Traced) -> None:
        super().__init__()
        self._folder, self._deaths, self._pause = traced.folder, traced.deaths, traced.pause

    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        (self._folder / f"shard-{os.urandom(8).hex()}").touch()
        time.sleep(self._pause)
        died = self._folder / "died"
        if any("deadly" in tokens for tokens in sentences):
            so_far = died.read_text() if died.exists() else ""
            if len(so_far) < self._deaths:
                died.write_text(f"{so_far}x")
                os.kill(os.getpid(), signal.SIGKILL)
        if any("broken" in tokens for tokens in sentences):
            raise ModelError("the model is broken; mend it")
        return super().translate(sentences)


def loads(monkeypatch: pytest.MonkeyPatch, wrapper: Callable[..., Any], *arguments: object) -> None:
    """Let the actors of a cluster load something around what they load."""
    from backattn.cluster import Cluster

    plain = Cluster.run

    def run(self: Any, load: Any, tasks: Any) -> Any:
        return plain(self, wrapper(load, *arguments), tasks)

    monkeypatch.setattr(Cluster, "run", run)


@dataclass(frozen=True)
class Junk:
    """Computes something else than what it is asked for."""

    load: Callable[[], Callable[[Any], bytes]]

    def __call__(self) -> Callable[[Any], bytes]:
        return lambda task: b"\x80\x04not what was asked for"


@dataclass(frozen=True)
class Elsewhere:
    """Loads on a node with a cache of its own.

    :param cache: its folder.
    """

    load: Callable[[], Callable[[Any], bytes]]
    cache: Path

    def __call__(self) -> Callable[[Any], bytes]:
        os.environ["BACKATTN_CACHE"] = str(self.cache)
        return self.load()


@dataclass(frozen=True)
class DyingTraining:
    """Sends runs back after each epoch, and leaves a file for each; the first that go on are killed instead.

    :param deaths: number of runs that are killed.
    """

    load: Callable[[], Callable[[Any], bytes]]
    folder: Path
    deaths: int = 0

    def __call__(self) -> Callable[[Any], bytes]:
        from backattn.experiments import cluster_runs

        cluster_runs._SECONDS = 0.0
        compute = self.load()

        def traced(task: Any) -> bytes:
            files = compute(task)
            began = b"checkpoint.safetensors" in task.files
            if began and len(list(self.folder.glob("death-*"))) < self.deaths:
                (self.folder / f"death-{os.getpid()}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            (self.folder / f"epoch-{os.urandom(8).hex()}").touch()
            return files

        return traced
