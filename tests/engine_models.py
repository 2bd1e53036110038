"""Models for tests of the engines: a worker in another process can load them, and some of them go wrong."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
