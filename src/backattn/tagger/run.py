"""The folder of a run: what training leaves behind, written so that a kill costs at most one epoch.

``run.json`` is written last: where it is, the run is complete. No pickle anywhere. Nothing here needs torch,
so that a finished grid is answered at once; tensors are read by :mod:`~backattn.tagger.checkpoint_io`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from backattn.common.atomic_files import is_file, write_whole
from backattn.common.digests import canonical_json
from backattn.common.errors import MissingError, ModelError, StaleError
from backattn.common.json_files import parse, read_json_text, read_table
from backattn.common.regular_files import read_regular
from backattn.common.safe_text import quoted, shortened
from backattn.corpus import Sentence
from backattn.corpus.scoring import Score
from backattn.recipe import EmbeddingName
from backattn.tagger.frozen_features import Inputs

RUN_FORMAT = 1
ADVICE = "remove the folder and train again"
# Inputs of which the store of T is one.
WITH_STORE = ("words+transfer", "transfer")
_DEEPEST = 12


@dataclass(frozen=True)
class Run:
    """A finished training run.

    :param folder: where it lies.
    :param request: everything that decides its numbers (inputs, seed, tagger recipe, corpus, stores).
    :param best_epoch: the epoch of the best F1 on dev, from 1; the weights and scores are its.
    :param history: one row for each epoch, as in ``epochs.jsonl``.
    :param environment: versions, device and threads, for the record.
    :param seconds: time spent in epochs, over all processes that worked on the run.
    """

    folder: Path
    request: Mapping[str, Any]
    best_epoch: int
    dev: Score
    test: Score
    history: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, Any]
    seconds: float

    @property
    def inputs(self) -> Inputs:
        """What the CRF saw: the row of Table 5."""
        inputs: Inputs = self.request["inputs"]
        return inputs

    @property
    def seed(self) -> int:
        """The seed of everything random."""
        return int(self.request["seed"])

    @property
    def sentences(self) -> int:
        """How many training sentences it learnt from."""
        return int(self.request["sentences"])


@dataclass(frozen=True)
class RunFolder:
    """Names in a run's folder, and how each file is written and read."""

    path: Path

    @property
    def lock(self) -> Path:
        """Held by the process that trains."""
        return self.path / "lock"

    @property
    def manifest(self) -> Path:
        """The finished run."""
        return self.path / "run.json"

    @property
    def recipe(self) -> Path:
        """The whole recipe that the run was made with; it also says where the models lie."""
        return self.path / "recipe.json"

    @property
    def epochs(self) -> Path:
        """One JSON line for each epoch."""
        return self.path / "epochs.jsonl"

    @property
    def vocabulary(self) -> Path:
        """What the tagger knows by number."""
        return self.path / "vocabulary.json"

    @property
    def weights(self) -> Path:
        """The weights of the best epoch on dev."""
        return self.path / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The state after the last epoch; gone when the run is complete."""
        return self.path / "checkpoint.safetensors"

    def predictions(self, split: str) -> Path:
        """Columns token, gold tag, predicted tag; a blank line between sentences."""
        return self.path / f"predictions.{split}.tsv"

    def refuse_link(self) -> None:
        """Ask before anything is written.

        :raises ModelError: the folder is a link, and no finished run: what lies there may be anybody's.
        """
        if self.path.is_symlink() and not is_file(self.manifest):
            raise ModelError(
                f"{self.path}: is a link, expected the folder of a run; remove the link, then train again"
            )

    def write_run(self, run: Run) -> None:
        """Write ``run.json``: the run is complete from here on."""
        value = {
            "format": RUN_FORMAT,
            "request": run.request,
            "epochs": len(run.history),
            "best_epoch": run.best_epoch,
            "environment": run.environment,
            "seconds": run.seconds,
            "dev": run.dev.to_json(),
            "test": run.test.to_json(),
        }
        write_whole(self.manifest, (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8"))

    def write_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write ``epochs.jsonl`` anew."""
        lines = "".join(json.dumps(row) + "\n" for row in history)
        write_whole(self.epochs, lines.encode("utf-8"))

    def count_epochs(self) -> int:
        """How many epochs are finished, whoever works on them."""
        return read_regular(self.epochs).count(b"\n") if is_file(self.epochs) else 0

    def write_predictions(
        self, split: str, gold: Sequence[Sentence], predicted: Sequence[Sequence[str]]
    ) -> None:
        """Write the predictions of a split."""
        blocks = (
            "".join(f"{row[0]}\t{row[1]}\t{row[2]}\n" for row in zip(s.tokens, s.tags, tags, strict=True))
            for s, tags in zip(gold, predicted, strict=True)
        )
        write_whole(self.predictions(split), "\n".join(blocks).encode("utf-8"))


def read_run(folder: Path) -> Run:
    """Read a finished run.

    :raises MissingError: there is none, or it is not finished.
    :raises ModelError: the folder's files are damaged or of another version.
    """
    files = RunFolder(folder)
    if not is_file(files.manifest):
        state = "is not finished" if is_file(files.checkpoint) else "holds no run"
        raise MissingError(f"{folder}: {state}; `backattn train LANG` makes it")
    value = read_json(files.manifest)
    if value.get("format") != RUN_FORMAT:
        raise ModelError(
            f"{files.manifest}: format {quoted(value.get('format'))}, this program reads {RUN_FORMAT}; "
            f"{ADVICE}"
        )
    try:
        return _checked(files, value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, OSError) as error:
        raise ModelError(f"{folder}: damaged run ({_words(error)}); {ADVICE}") from None


def finished_run(folder: Path, request: Mapping[str, Any]) -> Run | None:
    """The run of this request, if it is there and complete. Needs no torch.

    :raises StaleError: the folder holds another run.
    :raises ModelError: its files are damaged.
    """
    files = RunFolder(folder)
    if not files.manifest.is_file():
        return None
    run = read_run(folder)
    check_request(folder, run.request, request)
    files.checkpoint.unlink(missing_ok=True)  # a kill may have come between the manifest and this
    return run


def read_history(files: RunFolder) -> tuple[Mapping[str, Any], ...]:
    """The rows of ``epochs.jsonl``.

    :raises ValueError: it is damaged.
    :raises OSError: it is not there.
    """
    rows = tuple(parse(line) for line in read_json_text(files.epochs).splitlines())
    for row in rows:
        if not isinstance(row, dict) or _number(row["dev_f1"]) > 1:
            raise ValueError(f"{files.epochs.name}: expected a table with a dev_f1, found {quoted(row)}")
    return rows


def _checked(files: RunFolder, value: Mapping[str, Any]) -> Run:
    """The values of a ``run.json``, each of its kind, so that a damaged run is named here and never later.

    :raises ValueError, TypeError, KeyError, AttributeError: one is not.
    """
    _require_shallow(value["request"], value["environment"])
    history, best = read_history(files), _whole(value["best_epoch"])
    if len(history) != _whole(value["epochs"]) or not 1 <= best <= len(history):
        raise ValueError(f"epoch {best} of {value['epochs']} is best, {files.epochs.name} has {len(history)}")
    if not isinstance(value["environment"], dict):
        raise TypeError("environment is not a table")
    return Run(
        files.path,
        _checked_request(value["request"]),
        best,
        Score.from_json(value["dev"]),
        Score.from_json(value["test"]),
        history,
        value["environment"],
        float(_number(value["seconds"])),
    )


def _checked_request(request: Mapping[str, Any]) -> Mapping[str, Any]:
    inputs, transfer = request["inputs"], request.get("transfer")
    if inputs not in get_args(Inputs):
        raise ValueError(f"expected inputs {', '.join(get_args(Inputs))}; found {quoted(inputs)}")
    if not isinstance(transfer, str | (type(None) if inputs not in WITH_STORE else str)):
        raise TypeError(f"transfer is not the name of a store: {quoted(transfer)}")
    if not isinstance(request.get("corpus", ""), str):
        raise TypeError("corpus is not a text")
    embeddings, known = request.get("embeddings", {}), get_args(EmbeddingName)
    if not isinstance(embeddings, dict) or not all(isinstance(store, str) for store in embeddings.values()):
        raise TypeError("embeddings are not the names of stores")
    tagger = request["tagger"]
    read = tagger.get("embeddings", [])
    if not isinstance(read, list) or not all(name in known for name in (*read, *embeddings)):
        raise ValueError(f"expected embeddings among {', '.join(known)}; found {quoted([read, embeddings])}")
    if not isinstance(tagger.get("fusion", ""), str):
        raise TypeError("fusion is not a text")
    _whole(request["seed"])
    if not (_whole(request["sentences"]) and _whole(tagger["epochs"])):
        raise ValueError("sentences or epochs: expected at least one, found 0")
    canonical_json(request).encode("utf-8")  # refuses NaN and lone surrogates
    return request


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**63:
        raise ValueError(f"expected a number, found {quoted(value)}")
    return value


def _whole(value: Any) -> int:
    if not isinstance(_number(value), int):
        raise ValueError(f"expected a whole number, found {quoted(value)}")
    return int(value)


def _require_shallow(*values: Any) -> None:
    """What is nested deeper than any request would break whoever walks through it."""
    level: list[Any] = list(values)
    for _ in range(_DEEPEST):
        tables = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level = [item for table in tables for item in table]
    if level:
        raise ValueError("nested too deep")


def _words(error: Exception) -> str:
    return shortened(f"{type(error).__name__}: {error}")


def check_request(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to take one run for another.

    :raises StaleError: names what differs.
    """
    differing = [
        key
        for key in sorted({*found, *wanted})
        if canonical_json(found.get(key)) != canonical_json(wanted.get(key))
    ]
    if differing:
        raise StaleError(
            f"{folder}: holds a run with another {', '.join(differing)}; remove the folder to train again"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON table of a run's folder.

    :raises MissingError: there is no such file.
    :raises ModelError: it is damaged.
    """
    return read_table(path, ADVICE)
