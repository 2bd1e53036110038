"""Run folders -> records, without torch: of a run, a report needs only the JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from backattn.errors import MissingError, ModelError
from backattn.files import is_file
from backattn.fingerprint import canonical_json
from backattn.json_files import parse, read_table
from backattn.quoting import quoted, shortened
from backattn.recipe import EmbeddingName, TaggerRecipe
from backattn.tagger.request import model_name
from backattn.tagger.run import ADVICE, RUN_FORMAT
from backattn.tagger.sources import Inputs

# The store of T, among those that a run reads.
TRANSFER = "transfer"
WITH_STORE = ("words+transfer", "transfer")
_MOST_ENTITIES = 1 << 20  # of one sentence; sums of larger ones could overflow

# True positives, false positives and false negatives of each test sentence. Shape: (sentences, 3)
CountArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What a report uses of a finished run.

    :param request: everything that decides its numbers: inputs, seed, sentences, tagger, corpus, ...
    :param model, base: what the paper calls it, and the model that it is compared with: the same on words
        alone. T alone reads no frozen features, so its base has none either.
    :param dev_f1: of the best epoch.
    :param counts: of the test set, sentence by sentence. *Shape:* (sentences, 3)
    :param groups: the same for each named group (Weibo: NE, NM).
    :param types: tp, fp, fn of each entity type over the test set.
    :param curve: dev F1 after each epoch.
    :param signature: what makes the test score again, as ``name:value|name:value``.
    """

    folder: Path
    request: Mapping[str, Any]
    model: str
    base: str
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

    @property
    def sentences(self) -> int:
        """How many training sentences it learnt from."""
        return int(self.request["sentences"])

    @property
    def epochs(self) -> int:
        """How many epochs it was trained."""
        return int(self.request["tagger"]["epochs"])

    @property
    def whole(self) -> bool:
        """Did it learn from all of them, as the paper's rows do?"""
        return bool(self.request["tagger"].get("sentences") == "all")

    @property
    def stores(self) -> Mapping[str, str]:
        """Id of each store that it read -> :data:`TRANSFER`, or the name of the embedding."""
        found = {store: str(name) for name, store in self.request.get("embeddings", {}).items()}
        if self.store is not None:
            found[self.store] = TRANSFER
        return found

    @property
    def store(self) -> str | None:
        """Id of the store of T that it read."""
        return self.request.get("transfer") if self.inputs in WITH_STORE else None


@dataclass(frozen=True)
class Damaged:
    """A run folder whose ``run.json`` or ``epochs.jsonl`` cannot be believed.

    :param reason: what is wrong and what to do, in one line.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Unfinished:
    """A run folder without ``run.json``: still in training, or stopped.

    :param epochs: epochs that it has finished.
    """

    name: str
    epochs: int


@dataclass(frozen=True, eq=False)
class Runs:
    """All run folders of a LANG, in the order of their names."""

    finished: tuple[RunRecord, ...]
    unfinished: tuple[Unfinished, ...]
    damaged: tuple[Damaged, ...]


def find_runs(cache: Path, lang: str) -> Runs:
    """Read all runs of a LANG. A damaged one is set apart: the others' numbers do not depend on it.

    :raises MissingError: there is not one finished run.
    :raises ModelError: there is none, and one is damaged or of another format.
    """
    folder = cache / lang / "runs"
    finished: list[RunRecord] = []
    unfinished: list[Unfinished] = []
    damaged: list[Damaged] = []
    for path in sorted(path for path in folder.glob("*") if path.is_dir()):
        if not (path / "run.json").exists():
            unfinished.append(Unfinished(path.name, _finished_epochs(path)))
            continue
        try:
            finished.append(read_record(path))
        except (ModelError, MissingError) as error:
            damaged.append(Damaged(path.name, str(error)))
    if not finished and damaged:
        raise ModelError(damaged[0].reason)
    if not finished:
        started = f", {len(unfinished)} not finished" if unfinished else ""
        raise MissingError(f"{folder}: no finished run{started}; train some with `backattn train {lang}`")
    return Runs(tuple(finished), tuple(unfinished), tuple(damaged))


def read_record(folder: Path) -> RunRecord:
    """Read one finished run.

    :raises ModelError: it is damaged or of another format.
    """
    path = folder / "run.json"
    value = read_table(path, ADVICE)
    if value.get("format") != RUN_FORMAT:
        raise ModelError(
            f"{path}: format {quoted(value.get('format'))}, this program reads {RUN_FORMAT}; {ADVICE}"
        )
    try:
        return _record(folder, value)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        reason = shortened(f"{type(error).__name__}: {error}")
        raise ModelError(f"{folder}: damaged run ({reason}); {ADVICE}") from None


def _record(folder: Path, value: Mapping[str, Any]) -> RunRecord:
    test, request = value["test"], _request(value["request"])
    lines, best = _epoch_lines(folder), _whole(value["best_epoch"])
    if len(lines) != value["epochs"] or not 1 <= best <= len(lines):
        raise ValueError(f"epoch {best} of {quoted(value['epochs'])} is best, epochs.jsonl has {len(lines)}")
    tagger = _named_by(request["tagger"])
    return RunRecord(
        folder=folder,
        request=request,
        model=model_name(request["inputs"], tagger),
        base=model_name("words", tagger),
        best_epoch=best,
        seconds=float(_number(value["seconds"])),
        device=str(value["environment"].get("device", "")),
        dev_f1=_share(value["dev"]["overall"]["f1"]),
        counts=_counts(test["sentences"]),
        groups={name: _counts(rows) for name, rows in test["group_sentences"].items()},
        types={name: _count(row["tp"], row["fp"], row["fn"]) for name, row in test["types"].items()},
        curve=tuple(_share(parse(line)["dev_f1"]) for line in lines),
        signature=str(test["signature"]),
    )


def _request(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """What others will ask of a request is asked here: an error is a damaged run, not a defect later on."""
    texts, numbers = (request["inputs"], request["corpus"]), (request["seed"], request["sentences"])
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("inputs or corpus is not a text")
    if not isinstance(request.get("transfer"), str | None):
        raise TypeError("transfer is not the name of a store")
    embeddings = request.get("embeddings", {})
    if not isinstance(embeddings, dict) or not all(isinstance(store, str) for store in embeddings.values()):
        raise TypeError("embeddings are not the names of stores")
    if request["inputs"] not in get_args(Inputs):
        raise ValueError(f"expected inputs {', '.join(get_args(Inputs))}; found {quoted(request['inputs'])}")
    for number in (*numbers, request["tagger"]["epochs"]):
        _whole(number)
    canonical_json(request).encode("utf-8")  # refuses NaN and lone surrogates
    return request


def _named_by(tagger: Mapping[str, Any]) -> TaggerRecipe:
    """What of a tagger's recipe is part of its name; older runs, from before a choice, have the defaults."""
    embeddings, fusion = tagger.get("embeddings", []), tagger.get("fusion", "output")
    known = get_args(EmbeddingName)
    if not isinstance(embeddings, list) or not all(name in known for name in embeddings):
        raise ValueError(f"expected embeddings among {', '.join(known)}; found {quoted(embeddings)}")
    if not isinstance(fusion, str):
        raise TypeError("fusion is not a text")
    return TaggerRecipe(embeddings=tuple(embeddings), fusion=fusion)  # type: ignore[arg-type]


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**63:
        raise ValueError(f"expected a number, found {quoted(value)}")
    return value


def _whole(value: Any) -> int:
    if not isinstance(_number(value), int):
        raise ValueError(f"expected a whole number, found {quoted(value)}")
    return int(value)


def _share(value: Any) -> float:
    if not _number(value) <= 1:
        raise ValueError(f"expected an F1, found {quoted(value)}")
    return float(value)


def _count(*values: Any) -> tuple[int, int, int]:
    tp, fp, fn = (int(_number(value)) for value in values)
    return tp, fp, fn


def _counts(rows: Any) -> CountArray:
    counts = np.array(rows, dtype=np.int64).reshape(len(rows), 3)
    if not len(counts):
        raise ValueError("the test of no sentence")
    if (counts < 0).any() or (counts > _MOST_ENTITIES).any():
        raise ValueError("a count that no sentence has")
    return counts


def _finished_epochs(folder: Path) -> int:
    try:
        return len(_epoch_lines(folder))
    except (OSError, ValueError):
        return 0


def _epoch_lines(folder: Path) -> list[str]:
    path = folder / "epochs.jsonl"
    if not is_file(path):
        raise ValueError(f"{path.name} is missing")
    return path.read_text("utf-8").splitlines()
