"""Run folders -> records, without torch: of a run, a report needs only the JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backattn.errors import MissingError, ModelError

# The format that is read here; `tagger/run.py` writes it, and a test keeps the two equal.
RUN_FORMAT = 1

# True positives, false positives and false negatives of each test sentence. Shape: (sentences, 3)
CountArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What a report uses of a finished run.

    :param request: everything that decides its numbers: inputs, seed, sentences, tagger, corpus, ...
    :param dev_f1: of the best epoch.
    :param counts: of the test set, sentence by sentence. *Shape:* (sentences, 3)
    :param groups: the same for each named group (Weibo: NE, NM).
    :param types: tp, fp, fn of each entity type over the test set.
    :param curve: dev F1 after each epoch.
    :param signature: what makes the test score again, as ``name:value|name:value``.
    """

    folder: Path
    request: Mapping[str, Any]
    best_epoch: int
    seconds: float
    device: str
    dev_f1: float
    counts: CountArray
    groups: Mapping[str, CountArray]
    types: Mapping[str, tuple[int, int, int]]
    curve: tuple[float, ...]
    signature: str

    @property
    def seed(self) -> int:
        """The seed of everything random in it."""
        return int(self.request["seed"])

    @property
    def inputs(self) -> str:
        """What the CRF saw: ``words``, ``words+transfer``, ..."""
        return str(self.request["inputs"])


@dataclass(frozen=True)
class Unfinished:
    """A run folder without ``run.json``: still in training, or stopped.

    :param epochs: epochs that it has finished.
    """

    name: str
    epochs: int


def find_runs(cache: Path, lang: str) -> tuple[list[RunRecord], list[Unfinished]]:
    """Read all runs of a LANG, in the order of their folders' names.

    :raises MissingError: there is not one finished run.
    :raises ModelError: a finished run is damaged or of another format.
    """
    folder = cache / lang / "runs"
    finished: list[RunRecord] = []
    unfinished: list[Unfinished] = []
    for path in sorted(path for path in folder.glob("*") if path.is_dir()):
        if (path / "run.json").is_file():
            finished.append(read_record(path))
        else:
            unfinished.append(Unfinished(path.name, _finished_epochs(path)))
    if not finished:
        started = f", {len(unfinished)} not finished" if unfinished else ""
        raise MissingError(f"{folder}: no finished run{started}; train some with `backattn train {lang}`")
    return finished, unfinished


def read_record(folder: Path) -> RunRecord:
    """Read one finished run.

    :raises ModelError: it is damaged or of another format.
    """
    path = folder / "run.json"
    try:
        value = json.loads(path.read_text("utf-8"))
        if value["format"] != RUN_FORMAT:
            raise ModelError(
                f"{path}: format {value['format']}, this program reads {RUN_FORMAT}; "
                "remove the folder and train again"
            )
        return _record(folder, value)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise ModelError(
            f"{folder}: damaged run ({type(error).__name__}: {error}); remove the folder and train again"
        ) from None


def _record(folder: Path, value: Mapping[str, Any]) -> RunRecord:
    test, request = value["test"], value["request"]
    for key in ("inputs", "seed", "sentences", "tagger", "corpus"):
        request[key]  # a KeyError here is a damaged run, not a defect of the report later on
    lines = (folder / "epochs.jsonl").read_text("utf-8").splitlines()
    return RunRecord(
        folder=folder,
        request=request,
        best_epoch=int(value["best_epoch"]),
        seconds=float(value["seconds"]),
        device=str(value["environment"].get("device", "")),
        dev_f1=float(value["dev"]["overall"]["f1"]),
        counts=_counts(test["sentences"]),
        groups={name: _counts(rows) for name, rows in test["group_sentences"].items()},
        types={name: (int(row["tp"]), int(row["fp"]), int(row["fn"])) for name, row in test["types"].items()},
        curve=tuple(float(json.loads(line)["dev_f1"]) for line in lines),
        signature=str(test["signature"]),
    )


def _counts(rows: Any) -> CountArray:
    return np.array(rows, dtype=np.int64).reshape(len(rows), 3)


def _finished_epochs(folder: Path) -> int:
    try:
        return len((folder / "epochs.jsonl").read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        return 0
