"""Train the tagger of one run (section 3.2 of the paper).

All random numbers of an epoch come from the seed and the number of the epoch. A run that was killed therefore
continues from its last epoch to the same numbers, bit for bit, as an uninterrupted one (on one machine, with
the same number of threads).
"""

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec import convert
from tqdm import tqdm

from backattn.common.atomic_files import write_whole
from backattn.common.device import bound_kernel_caches, return_big_blocks, threads_of_torch
from backattn.common.digests import canonical_json
from backattn.common.errors import ModelError, is_environment_error
from backattn.common.file_lock import writer_lock
from backattn.common.progress import bar_disabled, log_line, time_left
from backattn.common.safe_text import named_error_text
from backattn.common.version import package_versions
from backattn.corpus.scoring import Score, count, entities, score
from backattn.tagger.checkpoint_io import read_tensors, write_tensors
from backattn.tagger.dataset import training_order
from backattn.tagger.optimisation import Annealing, sgd_step
from backattn.tagger.prediction import decode
from backattn.tagger.preparation import Setup, prepare
from backattn.tagger.run import ADVICE, Run, RunFolder, check_request, finished_run
from backattn.tagger.run_spec import RunSpec, model_name

# Time between two lines of progress where no bar is drawn.
_LOG_SECONDS = 60
# As in stage one: no monitor thread for the progress bar.
tqdm.monitor_interval = 0


def train_run(
    spec: RunSpec, folder: Path, *, device: str = "cpu", threads: int = 1, progress: bool = False
) -> Run:
    """Train a tagger, continue a training that was stopped, or return the run if it is finished.

    :param threads: CPU threads of torch; not part of the run's identity. Two seeds in parallel with one
        thread each use two cores better than one training with two.
    :raises StaleError: the folder holds a run with another request, or a sentence has no vectors.
    :raises BusyError: another process trains in this folder.
    :raises ModelError: the training diverged, or the folder is damaged.
    :raises RecipeError: the recipe does not fit the corpus or the inputs.
    """
    run = train_for(math.inf, spec, folder, device=device, threads=threads, progress=progress)
    assert run is not None
    return run


def train_for(
    seconds: float,
    spec: RunSpec,
    folder: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    progress: bool = False,
) -> Run | None:
    """Train as :func:`train_run` does, but stop after the first epoch that ends later than ``seconds``.

    :return: the run; None if epochs are left, which another call continues.
    """
    bound_kernel_caches()
    return_big_blocks()
    files, request = RunFolder(folder), spec.request
    files.refuse_link()
    with writer_lock(files.lock), threads_of_torch(threads), torch.random.fork_rng():
        run = finished_run(folder, request)
        if run is not None:
            return run
        torch.manual_seed(spec.seed)
        return _Training(spec, prepare(spec, device=device), files, threads).run(seconds, progress)


@dataclass(frozen=True)
class _State:
    """State of a training after an epoch; with the weights, all that the next epoch needs."""

    epoch: int
    annealing: Annealing
    best_epoch: int = 0
    best_f1: float = -1.0
    history: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_json(cls, value: Any) -> "_State":
        state = convert(value, cls)
        if not all(isinstance(row.get("precision"), str) for row in state.history):
            raise ValueError("an epoch does not record its precision")
        return state


class _Training:
    """One training: its network, and the folder that it updates after each epoch."""

    def __init__(self, spec: RunSpec, setup: Setup, files: RunFolder, threads: int) -> None:
        self.spec, self.setup, self.files, self.threads = spec, setup, files, threads
        self.recipe, self.network = spec.tagger, setup.network
        self.learnable = {n: p for n, p in self.network.named_parameters() if p.requires_grad}
        self.dev_gold = entities(sentence.tags for sentence in setup.corpus.dev)

    def run(self, seconds: float, progress: bool) -> Run | None:
        """Train to the last epoch and write the run; return None if the time is over before."""
        state = self._resume()
        sentences = len(self.setup.train)
        total = self.recipe.epochs * sentences
        name = self.files.path.name
        log_line(name, progress)
        done = state.epoch * sentences
        with tqdm(
            total=total, initial=done, desc=name, unit="sentence", disable=bar_disabled(progress)
        ) as bar:
            before, begin = state.epoch, time.monotonic()
            logged = begin
            while state.epoch < self.recipe.epochs:
                state = self._after_epoch(state, bar)
                if time.monotonic() - begin > seconds and state.epoch < self.recipe.epochs:
                    return None
                if time.monotonic() - logged > _LOG_SECONDS:
                    logged = time.monotonic()
                    left = time_left(begin, state.epoch - before, self.recipe.epochs - before)
                    log_line(f"{name}: epoch {state.epoch}/{self.recipe.epochs}, {left}", progress)
        return self._finish(state)

    def _resume(self) -> _State:
        if not self.files.checkpoint.is_file():
            vocabulary = canonical_json(self.setup.vocabulary.to_json())
            write_whole(self.files.vocabulary, vocabulary.encode("utf-8"))
            return _State(0, Annealing(self.recipe.learning_rate))
        tensors, about = read_tensors(self.files.checkpoint)
        try:
            check_request(self.files.path, about["request"], self.spec.request)
            if tensors.keys() != self.learnable.keys():
                raise ValueError("parameters of another network")
            self.network.load_state_dict(tensors, strict=False)  # buffers are computed, not learnt
            return _State.from_json(about["state"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if is_environment_error(error):
                raise
            raise ModelError(
                f"{self.files.checkpoint}: damaged ({named_error_text(error)}); {ADVICE}"
            ) from None

    def _after_epoch(self, state: _State, bar: "tqdm[Any]") -> _State:
        """Train one epoch, score it on dev, and save the state."""
        begin, epoch = time.perf_counter(), state.epoch + 1
        loss = self._epoch(epoch, state.annealing.rate, bar)
        trained = time.perf_counter()
        setup = self.setup
        predicted = decode(self.network, setup.vocabulary, setup.dev, setup.sources)
        f1 = count(self.dev_gold, entities(predicted)).f1
        # Of equally good epochs the last: a dev split on which F1 stays 0 must not keep the first epoch.
        better = f1 >= state.best_f1
        row = {
            "epoch": epoch,
            "loss": loss,
            "dev_f1": f1,
            "learning_rate": state.annealing.rate,
            "precision": "bfloat16" if self.network.reduced else "float32",
            "seconds": round(time.perf_counter() - begin, 3),
            "tokens_per_second": round(int(setup.train.lengths.sum()) / (trained - begin)),
        }
        bar.set_postfix(epoch=epoch, loss=f"{loss:.3f}", dev=f"{f1:.4f}")
        annealing = state.annealing.after(loss, patience=self.recipe.patience, factor=self.recipe.anneal)
        best_epoch, best_f1 = (epoch, f1) if better else (state.best_epoch, state.best_f1)
        state = _State(epoch, annealing, best_epoch, best_f1, (*state.history, row))
        self._save(state, better)
        return state

    def _epoch(self, epoch: int, rate: float, bar: "tqdm[Any]") -> float:
        """Train one epoch; return the mean loss per sentence."""
        seed = _epoch_seed(self.spec.seed, epoch)
        torch.manual_seed(seed)
        train, network = self.setup.train, self.network.train()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.setup.device)
        for indices in training_order(train.lengths, self.recipe.batch, np.random.default_rng(seed)):
            loss = network.loss(train.batch(indices, self.setup.sources).to(self.setup.device))
            loss.backward()  # type: ignore[no-untyped-call]
            sgd_step(self.learnable.values(), rate=rate, clip_norm=self.recipe.clip_norm)
            loss_sum += loss.detach() * len(indices)
            bar.update(len(indices))
        mean = float(loss_sum) / len(train)
        if not np.isfinite(mean):
            raise ModelError(
                f"{self.files.path}: the training loss of epoch {epoch} is {mean}; "
                "a lower tagger.learning_rate, or gradients clipped at a lower tagger.clip_norm (0 does not "
                "clip), keeps it finite"
            )
        return mean

    def _save(self, state: _State, better: bool) -> None:
        # A kill between the two files leaves weights of an epoch that is trained again, to the same bits.
        if better:
            write_tensors(self.files.weights, self.network.state_dict(), {"shape": asdict(self.setup.shape)})
        about = {"request": self.spec.request, "state": asdict(state)}
        write_tensors(self.files.checkpoint, self.learnable, about)
        self.files.write_history(state.history)

    def _finish(self, state: _State) -> Run:
        """Score the best epoch on dev and test, and write the predictions and, last, ``run.json``."""
        self.network.load_state_dict(read_tensors(self.files.weights)[0])
        self.files.write_history(state.history)  # a kill after the last checkpoint leaves the last row out
        run = Run(
            folder=self.files.path,
            request=self.spec.request,
            best_epoch=state.best_epoch,
            dev=self._score("dev", state),
            test=self._score("test", state),
            history=state.history,
            environment=_environment(str(self.setup.device), self.threads),
            seconds=sum(row["seconds"] for row in state.history),
        )
        self.files.write_run(run)
        self.files.checkpoint.unlink(missing_ok=True)
        return run

    def _score(self, split: str, state: _State) -> Score:
        sentences = getattr(self.setup.corpus, split)
        encoded = self.setup.dev if split == "dev" else self.setup.encode(sentences)
        predicted = decode(self.network, self.setup.vocabulary, encoded, self.setup.sources)
        self.files.write_predictions(split, sentences, predicted)
        spec = self.spec
        about = {
            "split": split,
            "model": model_name(spec.inputs, spec.tagger),
            **{name: spec.request[name] for name in ("inputs", "seed", "sentences")},
            "epochs": state.epoch,
            "best_epoch": state.best_epoch,
            # Epochs may have been trained on machines with and without bfloat16.
            "precision": ",".join(sorted({row["precision"] for row in state.history})),
            "transfer": spec.request["transfer"] or "none",
        }
        return score([s.tags for s in sentences], predicted, spec.groups, about)


def _epoch_seed(seed: int, epoch: int) -> int:
    """Seed of all random numbers of one epoch, a 63-bit number."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:8]) >> 1


def _environment(device: str, threads: int) -> dict[str, Any]:
    """Versions of packages, device and threads, for the record."""
    packages = ("python", "backattn", "torch", "numpy", "pytorch-crf", "safetensors", "seqeval")
    return {
        **package_versions(packages),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "device": device,
        "threads": threads,
    }
