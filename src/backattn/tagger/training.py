"""Corpus + transfer vectors + frozen features + recipe + seed -> one run (section 3.2 of the paper).

Everything random in an epoch comes from the seed and the epoch's number alone. So a run that was killed
goes on from its last epoch to the same numbers, bit for bit, as one that was not (on one machine,
with as many threads).
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from backattn.common.atomic_files import write_whole
from backattn.common.device import bound_kernel_caches, return_big_blocks, threads_of_torch
from backattn.common.digests import canonical_json
from backattn.common.errors import ModelError, is_environment_error
from backattn.common.file_lock import writer_lock
from backattn.common.progress import bar_disabled, log_line
from backattn.common.safe_text import shortened
from backattn.common.version import package_versions
from backattn.corpus import Corpus
from backattn.corpus.scoring import Score, legal_spans, score, span_f1
from backattn.recipe import TaggerRecipe
from backattn.tagger.checkpoint_io import read_tensors, write_tensors
from backattn.tagger.dataset import training_order
from backattn.tagger.frozen_features import Inputs, StoredFeatures
from backattn.tagger.optimisation import Annealing, sgd_step
from backattn.tagger.prediction import decode
from backattn.tagger.preparation import Setup, prepare
from backattn.tagger.run import Run, RunFolder, check_request, finished_run
from backattn.tagger.run_spec import effective_recipe, make_request, model_name

# As in stage one: no thread that watches the bar.
tqdm.monitor_interval = 0


def train_run(
    corpus: Corpus,
    transfer: StoredFeatures | None,
    recipe: TaggerRecipe,
    *,
    inputs: Inputs,
    seed: int,
    folder: Path,
    identity: Mapping[str, Any],
    embeddings: Mapping[str, StoredFeatures] = MappingProxyType({}),
    groups: Mapping[str, str] | None = None,
    progress: bool = False,
    device: str = "cpu",
    threads: int = 1,
) -> Run:
    """Train a tagger, or go on with a training that was stopped, or give the run that is there.

    :param transfer: the transfer vectors; for ``words`` not used, for ``random`` only their width.
    :param identity: JSON facts that decide the numbers and are not otherwise known here (digest of the
        corpus, recipe); they are kept in ``run.json`` and must agree when a training goes on.
    :param embeddings: the frozen features that the recipe names; more are not used.
    :param groups: named scores, as for :func:`~backattn.corpus.scoring.score`.
    :param threads: CPU threads of torch; does not belong to the identity. Seeds side by side with one
        thread each use two cores better than one training with two.
    :raises StaleError: the folder holds a run with another identity, or a sentence has no vectors.
    :raises BusyError: another process trains in this folder.
    :raises ModelError: the training diverged, or the folder is damaged.
    :raises RecipeError: the recipe does not fit the corpus, or the inputs.
    """
    bound_kernel_caches()
    return_big_blocks()
    files = RunFolder(folder)
    request = make_request(corpus, transfer, embeddings, recipe, inputs=inputs, seed=seed, identity=identity)
    recipe = effective_recipe(inputs, recipe)
    files.refuse_link()
    with writer_lock(files.lock), threads_of_torch(threads), torch.random.fork_rng():
        run = finished_run(folder, request)
        if run is not None:
            return run
        torch.manual_seed(seed)
        setup = prepare(corpus, transfer, embeddings, recipe, inputs, device=device)
        return _Training(setup, recipe, files, request, dict(groups or {}), threads).run(progress)


@dataclass(frozen=True)
class _State:
    """Where a training stands after an epoch; with the weights, all that the next one needs."""

    epoch: int
    annealing: Annealing
    best_epoch: int = 0
    best_f1: float = -1.0
    history: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "_State":
        return cls(
            **{**value, "annealing": Annealing(**value["annealing"]), "history": tuple(value["history"])}
        )


class _Training:
    """One training: its network and the folder that it keeps up to date."""

    def __init__(
        self,
        setup: Setup,
        recipe: TaggerRecipe,
        files: RunFolder,
        request: Mapping[str, Any],
        groups: Mapping[str, str],
        threads: int,
    ) -> None:
        self.setup, self.recipe, self.files, self.request = setup, recipe, files, request
        self.groups, self.threads = groups, threads
        self.network = setup.network
        self.learning = {n: p for n, p in self.network.named_parameters() if p.requires_grad}
        self.dev_gold = legal_spans(sentence.tags for sentence in setup.corpus.dev)

    def run(self, progress: bool) -> Run:
        """Train to the last epoch and write the run."""
        state = self._resume()
        sentences = len(self.setup.train)
        total = self.recipe.epochs * sentences
        name = self.files.path.name
        log_line(name, progress)
        done = state.epoch * sentences
        with tqdm(
            total=total, initial=done, desc=name, unit="sentence", disable=bar_disabled(progress)
        ) as bar:
            while state.epoch < self.recipe.epochs:
                state = self._after_epoch(state, bar)
        return self._finish(state)

    def _resume(self) -> _State:
        if not self.files.checkpoint.is_file():
            vocabulary = canonical_json(self.setup.vocabulary.to_json())
            write_whole(self.files.vocabulary, vocabulary.encode("utf-8"))
            return _State(0, Annealing(self.recipe.learning_rate))
        tensors, about = read_tensors(self.files.checkpoint)
        try:
            check_request(self.files.path, about["request"], self.request)
            if tensors.keys() != self.learning.keys():
                raise ValueError("parameters of another network")
            self.network.load_state_dict(tensors, strict=False)  # buffers are made, not learnt
            return _State.from_json(about["state"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if is_environment_error(error):
                raise
            reason = shortened(f"{type(error).__name__}: {error}".split("\n")[0])
            raise ModelError(
                f"{self.files.checkpoint}: damaged ({reason}); remove the folder and train again"
            ) from None

    def _after_epoch(self, state: _State, bar: "tqdm[Any]") -> _State:
        """Train one epoch, score it on dev, and write both down."""
        begin, epoch = time.perf_counter(), state.epoch + 1
        loss = self._epoch(epoch, state.annealing.rate, bar)
        trained = time.perf_counter()
        setup = self.setup
        predicted = decode(self.network, setup.vocabulary, setup.dev, setup.sources)
        f1 = span_f1(self.dev_gold, legal_spans(predicted))
        better = f1 > state.best_f1
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
        """One pass over the training sample; returns the mean loss of a sentence."""
        seed = _epoch_seed(int(self.request["seed"]), epoch)
        torch.manual_seed(seed)
        train, network = self.setup.train, self.network.train()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.setup.device)
        for indices in training_order(train.lengths, self.recipe.batch, np.random.default_rng(seed)):
            loss = network.loss(train.batch(indices, self.setup.sources).to(self.setup.device))
            loss.backward()  # type: ignore[no-untyped-call]
            sgd_step(self.learning.values(), rate=rate, clip_norm=self.recipe.clip_norm)
            loss_sum += loss.detach() * len(indices)
            bar.update(len(indices))
        mean = float(loss_sum) / len(train)
        if not np.isfinite(mean):
            raise ModelError(
                f"{self.files.path}: the training loss of epoch {epoch} is {mean}; "
                "a lower tagger.learning_rate or tagger.clip_norm keeps it finite"
            )
        return mean

    def _save(self, state: _State, better: bool) -> None:
        # A kill between the two leaves weights of an epoch that will be done again, to the same bits.
        if better:
            write_tensors(self.files.weights, self.network.state_dict(), {"shape": asdict(self.setup.shape)})
        about = {"request": self.request, "state": asdict(state)}
        write_tensors(self.files.checkpoint, self.learning, about)
        self.files.write_history(state.history)

    def _finish(self, state: _State) -> Run:
        """Score the best epoch on dev and test, write all of it, and last that it is complete."""
        self.network.load_state_dict(read_tensors(self.files.weights)[0])
        self.files.write_history(state.history)  # a kill after the last checkpoint has left one row out
        run = Run(
            folder=self.files.path,
            request=self.request,
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
        told = ("inputs", "seed", "sentences")
        model = model_name(self.request["inputs"], self.recipe)
        about = {"split": split, "model": model, **{name: self.request[name] for name in told}}
        about |= {"epochs": state.epoch, "best_epoch": state.best_epoch}
        # A training may have been begun on another machine, or by a version whose epochs do not say it.
        computed = {row.get("precision", self.recipe.precision) for row in state.history}
        about |= {"precision": ",".join(sorted(computed))}
        about |= {"transfer": self.request["transfer"] or "none"}
        return score([s.tags for s in sentences], predicted, self.groups, about)


def _epoch_seed(seed: int, epoch: int) -> int:
    """The seed of everything random in one epoch, a 63-bit number."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:8]) >> 1


def _environment(device: str, threads: int) -> dict[str, Any]:
    """What a run was made with, for the record: versions, device and threads."""
    packages = ("python", "backattn", "torch", "numpy", "pytorch-crf", "safetensors", "seqeval")
    return {
        **package_versions(packages),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "device": device,
        "threads": threads,
    }
