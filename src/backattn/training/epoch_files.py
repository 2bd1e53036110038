"""Train epoch by epoch and keep a model file and the metrics of each, so that a killed training resumes."""

import dataclasses
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from backattn.common.atomic_files import is_file, write_whole_text
from backattn.common.errors import MissingError, ModelError
from backattn.common.json_files import read_table
from backattn.common.progress import log_line, time_left
from backattn.models.flair_config import SUFFIX
from backattn.models.training_manifest import damage_as_model_error, train_anew


@dataclass(frozen=True, kw_only=True)
class EpochMetrics(ABC):
    """Metrics of one epoch; each trainer adds its own.

    :param seconds: of training, evaluation and writing the model file.
    """

    seconds: float = 0.0

    @abstractmethod
    def to_text(self) -> str:
        """The metrics for a progress line."""


_MetricsT = TypeVar("_MetricsT", bound=EpochMetrics)
_ModelT = TypeVar("_ModelT")


@dataclass(frozen=True)
class EpochFiles(Generic[_MetricsT]):
    """The files of the finished epochs in a work folder: ``epoch<k>.safetensors`` and ``epochs.json``.

    :param metrics: the dataclass of one epoch's metrics.
    :param name: of the model, where a work folder holds several: the files' names begin with it.
    """

    work: Path
    metrics: type[_MetricsT]
    name: str = ""

    def path(self, epoch: int) -> Path:
        """The model file of an epoch, from 1."""
        return self.work / f"{self._prefix}epoch{epoch}{SUFFIX}"

    def finished(self) -> tuple[_MetricsT, ...]:
        """The metrics of the finished epochs.

        :raises ModelError: their file is damaged.
        """
        if not self._log.exists():
            return ()
        table = read_table(self._log, train_anew(self.work))
        with damage_as_model_error(self._log):
            kind: Any = tuple[self.metrics, ...]  # type: ignore[name-defined]
            epochs: tuple[_MetricsT, ...] = msgspec.convert(table["epochs"], kind)
        return epochs

    def load(self, epoch: int, parse: Callable[[bytes, str], _ModelT]) -> _ModelT:
        """Load the model file of an epoch, which may have come from anywhere.

        :param parse: opens the file's bytes; its second argument is the file's name for messages.
        :raises MissingError: the file is not there.
        :raises ModelError: the file is damaged, or no model.
        """
        path = self.path(epoch)
        if not is_file(path):
            raise MissingError(f"{path}: an epoch's model is not there; {train_anew(self.work)}")
        try:
            return parse(path.read_bytes(), str(path))
        except ModelError as error:
            raise ModelError(f"{error}; {train_anew(self.work)}") from None

    def train(
        self, epochs: int, train: Callable[[int, Path], _MetricsT], *, progress: bool
    ) -> tuple[_MetricsT, ...]:
        """Train the epochs that are not finished yet; return the metrics of all.

        :param train: trains one epoch, counted from 0, and writes its model file to a path.
        :param progress: write a line after each epoch where there is no terminal.
        """
        finished = self.finished()
        before, begin = len(finished), time.monotonic()
        for epoch in range(len(finished), epochs):
            start = time.monotonic()
            metrics = train(epoch, self.path(epoch + 1))
            seconds = round(time.monotonic() - start, 1)
            finished = (*finished, dataclasses.replace(metrics, seconds=seconds))
            write_whole_text(self._log, json.dumps({"epochs": list(map(asdict, finished))}))
            label = f"{self.name}, " if self.name else ""
            left = time_left(begin, epoch + 1 - before, epochs - before)
            log_line(
                f"{label}epoch {epoch + 1}/{epochs}: {metrics.to_text()}, {seconds:.0f} s, {left}", progress
            )
        return finished

    @property
    def _prefix(self) -> str:
        return f"{self.name}." if self.name else ""

    @property
    def _log(self) -> Path:
        return self.work / f"{self._prefix}epochs.json"
