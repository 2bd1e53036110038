"""Train a translator with fairseq's models, criterion, optimisers and ``Trainer``, called from Python.

It differs from ``fairseq-train``: the data come from plain lines of pieces (no binarised files, one joint
dictionary), fconv's encoder shares the embedding too, the step runs under ``torch.autocast`` when the recipe
asks for bfloat16, the loss takes less memory (:mod:`~backattn.training.translator.label_smoothing`), and
fairseq's output goes to a log file.
"""

import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from backattn.common.device import pick_device, takes_bfloat16
from backattn.common.errors import ModelError, RecipeError
from backattn.common.progress import bar_disabled, log_line, time_left
from backattn.common.safe_text import named_error_text, quoted
from backattn.models.import_logging import TrainerLog, keep_root_logging
from backattn.models.safe_checkpoint import PLAIN_CLASSES, load_safely
from backattn.models.training_manifest import train_anew
from backattn.recipe import TranslatorTraining, model_path
from backattn.training.translator.checkpoint_averaging import (
    STATE,
    all_epochs,
    averaged_epochs,
    epoch_weights,
    write_checkpoint,
)
from backattn.training.translator.epoch_metrics import EpochSums, TranslatorEpoch
from backattn.training.translator.initialisation import take_over
from backattn.training.translator.label_smoothing import label_smoothed_loss
from backattn.training.translator.subword_data import PieceFiles
from backattn.translation.fairseq_checkpoint import reading_once

with keep_root_logging():
    # fairseq would import it at the first batch, and report a lack of memory as a missing compiler.
    import fairseq.data.data_utils_fast  # noqa: F401
    from fairseq import options
    from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
    from fairseq.data import Dictionary, LanguagePairDataset, ListDataset
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.models import ARCH_MODEL_REGISTRY
    from fairseq.models.fconv import FConvModel
    from fairseq.models.transformer import TransformerModel
    from fairseq.tasks.translation import TranslationTask
    from fairseq.trainer import Trainer

# A killed training loses at most this much work. The interval does not change the numbers.
SAVE_SECONDS = 240.0
# Adam needs a warm-up to train a transformer at all; NAG with clipped gradients does not.
_OPTIMIZERS = {
    "nag": ["--momentum", "0.99"],
    "adam": ["--adam-betas", "(0.9, 0.98)", "--warmup-updates", "1000"],
}
# One dictionary for both languages, so one embedding for both: a name has the same vector on both sides,
# which makes copying it easy.
_SHARING = {FConvModel: "--share-input-output-embed", TransformerModel: "--share-all-embeddings"}
_LOG = "fairseq.log"


class _Trainer(Trainer):  # type: ignore[misc]
    """fairseq's trainer, which does not leave a ``crash.pt`` in the current folder when a step fails."""

    def save_checkpoint(self, filename: str, extra_state: dict[str, Any]) -> None:
        """Save the state of a training, unless it has failed."""
        if Path(filename).name != "crash.pt":
            super().save_checkpoint(filename, extra_state)


class _JointTranslation(TranslationTask):  # type: ignore[misc]
    """fairseq's translation task over data in memory, with a joint dictionary and autocast."""

    def __init__(self, cfg: Any, dictionary: Dictionary, *, reduced: bool) -> None:
        super().__init__(cfg, dictionary, dictionary)
        self.reduced = reduced
        self.sums = EpochSums()

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **_: Any) -> None:
        """Do nothing: ``_Run`` has filled ``self.datasets``."""

    def _autocast(self, sample: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(sample["target"].device.type, dtype=torch.bfloat16, enabled=self.reduced)

    def train_step(self, sample: Any, *arguments: Any, **options: Any) -> Any:
        """Run one forward and backward pass, and add to the sums of the epoch."""
        with self._autocast(sample):
            result = super().train_step(sample, *arguments, **options)
        self.sums.add(result[2])
        return result

    def valid_step(self, sample: Any, model: Any, criterion: Any, **options: Any) -> Any:
        """Run one forward pass on held-out data, and add to the sums as well."""
        with self._autocast(sample):
            result = super().valid_step(sample, model, criterion, **options)
        self.sums.add(result[2])
        return result


class _Criterion(LabelSmoothedCrossEntropyCriterion):  # type: ignore[misc]
    """fairseq's criterion with the loss of :func:`label_smoothed_loss`."""

    def compute_loss(self, model: Any, net_output: Any, sample: Any, reduce: bool = True) -> Any:
        """Loss and negative log-likelihood, both summed over the batch."""
        logits = net_output[0]
        return label_smoothed_loss(
            logits.view(-1, logits.shape[-1]),
            model.get_targets(sample, net_output).view(-1),
            self.eps,
            self.padding_idx,
        )


def train_model(
    files: PieceFiles, training: TranslatorTraining, *, work: Path, progress: bool
) -> tuple[TranslatorEpoch, ...]:
    """Train all epochs, resuming from the state in ``work`` if there is one.

    The seed is set anew for every update, so a killed and resumed training ends with the same numbers as
    an uninterrupted one. Leaves ``epoch<k>.pt`` (weights) of the last ``training.average`` epochs, or with
    ``training.keep`` of all.

    :raises RecipeError: fairseq has no such architecture, or it is not of a supported family.
    :raises ModelError: the training diverged, or the state that it resumes from is damaged.
    """
    with _quiet_fairseq(work / _LOG), torch.serialization.safe_globals(PLAIN_CLASSES):
        run = _Run(files, training, work)
        with _bar(run, training, progress) as bar:
            before, begin, epochs = run.epoch - 1, time.monotonic(), len(training.learning_rates)
            while run.epoch <= epochs:
                run.train_epoch(bar)
                done = run.figures[-1]
                log_line(
                    f"epoch {done.epoch}/{epochs}: perplexity {done.perplexity:.2f}, "
                    f"{done.valid_perplexity:.2f} held out, {done.seconds:.0f} s, "
                    f"{time_left(begin, done.epoch - before, epochs - before)}",
                    progress,
                )
    return tuple(run.figures)


class _Run:
    """One training: fairseq's trainer, its position in the data, and its saved state."""

    def __init__(self, files: PieceFiles, training: TranslatorTraining, work: Path) -> None:
        self.training, self.work = training, work
        self.figures: list[TranslatorEpoch] = []
        dictionary = build_dictionary(files)
        cfg = _configuration(training, files)
        reduced = takes_bfloat16(training.precision, pick_device("auto"))
        self.task = _JointTranslation(cfg.task, dictionary, reduced=reduced)
        for split in ("train", "valid"):
            self.task.datasets[split] = _dataset(files, split, dictionary)
        torch.manual_seed(training.seed)
        criterion = _Criterion.build_criterion(cfg.criterion, self.task)
        model = _build_model(self.task, cfg)
        if training.parent:
            take_over(model, dictionary.symbols, model_path(training.parent))
        self.trainer = _Trainer(cfg, self.task, model, criterion)
        _refuse_longer_pairs(training, self.trainer.get_model())
        # Always built as for epoch 1: fairseq's seed of the batches depends on the epoch in which they are
        # first built, and a resumed training needs the batches of the first start.
        self.batches = self.trainer.get_train_iterator(epoch=1)
        self._resume()

    @property
    def epoch(self) -> int:
        """The next epoch, from 1."""
        return int(self.batches.next_epoch_idx)

    @property
    def updates(self) -> int:
        """Training steps done so far."""
        return int(self.trainer.get_num_updates())

    def train_epoch(self, bar: "tqdm[Any]") -> None:
        """Train on the rest of the epoch, then validate, keep the weights and save the state."""
        epoch, sums = self.epoch, self.task.sums
        iterator = self.batches.next_epoch_itr(shuffle=True)
        self.trainer.begin_epoch(epoch)
        saved = started = time.monotonic()
        before = sums.seconds
        for sample in iterator:
            self._step(sample, epoch)
            now = time.monotonic()
            sums.seconds = before + now - started
            _show(bar, epoch, len(self.training.learning_rates), sums)
            if now - saved > SAVE_SECONDS and iterator.has_next():
                self._save()
                saved = now
        self.figures.append(self._finish_epoch(epoch, sums))
        self._keep_weights(epoch)
        self.trainer.lr_step(epoch)
        self.task.sums = EpochSums()
        self._save()

    def _step(self, sample: Any, epoch: int) -> None:
        try:
            # Without raise_oom, fairseq skips a batch that does not fit into memory, and goes on.
            self.trainer.train_step([sample], raise_oom=True)
        except FloatingPointError:
            raise ModelError(
                f"the translator's training diverged in epoch {epoch} (gradients are not finite); "
                "lower translator.training.learning_rates and train anew"
            ) from None

    def _finish_epoch(self, epoch: int, sums: EpochSums) -> TranslatorEpoch:
        self.task.sums = EpochSums()
        for sample in self.trainer.get_valid_iterator("valid").next_epoch_itr(shuffle=False):
            self.trainer.valid_step(sample)
        return TranslatorEpoch(
            epoch=epoch,
            learning_rate=self.training.learning_rates[epoch - 1],
            updates=self.updates,
            pieces=sums.pieces,
            loss=sums.loss / sums.pieces,
            perplexity=sums.perplexity,
            valid_perplexity=self.task.sums.perplexity,
            pieces_per_second=sums.pieces / max(sums.seconds, 1e-9),
            seconds=sums.seconds,
            precision="bfloat16" if self.task.reduced else "float32",
        )

    def _keep_weights(self, epoch: int) -> None:
        if epoch in (all_epochs if self.training.keep else averaged_epochs)(self.training):
            path = epoch_weights(self.work, epoch)
            partial = path.with_suffix(".partial")
            torch.save({"model": self.trainer.get_model().state_dict()}, partial)
            partial.replace(path)

    def _save(self) -> None:
        extra = {
            "train_iterator": self.batches.state_dict(),
            "sums": asdict(self.task.sums),
            "figures": [asdict(figures) for figures in self.figures],
        }
        self.trainer.consolidate_optimizer()  # required before saving
        self.trainer.save_checkpoint(str(self.work / STATE), extra)  # writes to another name, then renames

    def _resume(self) -> None:
        path = self.work / STATE
        if not path.exists():
            return
        state = load_safely(path, advice=train_anew(self.work))
        try:
            with reading_once(state):
                extra = self.trainer.load_checkpoint(str(path))
            self.batches.load_state_dict(extra["train_iterator"])
            self.task.sums = EpochSums(**extra["sums"])
            self.figures = [TranslatorEpoch(**figures) for figures in extra["figures"]]
        except Exception as error:  # whatever fairseq raises comes from the file
            raise ModelError(
                f"{path}: damaged ({named_error_text(error)}); {train_anew(self.work)}"
            ) from error


def _refuse_longer_pairs(training: TranslatorTraining, model: Any) -> None:
    """Refuse a ``max_pieces`` longer than a batch, or than the model's positions.

    fairseq silently leaves such pairs out of the training, and fails on them when it validates.

    :raises RecipeError: pairs may be longer.
    """
    most = min(training.max_tokens, *(int(positions) for positions in model.max_positions())) - 1  # and EOS
    if training.max_pieces > most:
        raise RecipeError(
            f"translator.training.max_pieces: {training.max_pieces}, but a batch (max_tokens) and a "
            f"{training.architecture} take at most {most} pieces of a sentence; lower it, or raise max_tokens"
        )


def build_dictionary(files: PieceFiles) -> Dictionary:
    """Build fairseq's dictionary of the pieces of both sides of the training pairs, most frequent first."""
    dictionary = Dictionary()
    for language in files.languages:
        for pieces in files.lines("train", language):
            for piece in pieces:
                dictionary.add_symbol(piece)
    dictionary.finalize(padding_factor=8)
    return dictionary


def write_model(files: PieceFiles, epochs: Sequence[int], folder: Path) -> int:
    """Write a translator's folder: the average of some epochs, the dictionaries and the sentencepiece model.

    :returns: the number of parameters.
    """
    parameters = write_checkpoint(epochs, work=files.folder, path=folder / "checkpoint.pt")
    write_dictionaries(files, folder)
    shutil.copyfile(files.folder / "joint.model", folder / "joint.model")
    return parameters


def write_dictionaries(files: PieceFiles, folder: Path) -> None:
    """Write the joint dictionary twice, as ``dict.<language>.txt`` of each side."""
    dictionary = build_dictionary(files)
    for language in files.languages:
        dictionary.save(str(folder / f"dict.{language}.txt"))


def _configuration(training: TranslatorTraining, files: PieceFiles) -> Any:
    """Convert the recipe to fairseq's configuration, with fairseq's own command-line parser."""
    family = ARCH_MODEL_REGISTRY.get(training.architecture)
    if family not in _SHARING:
        known = sorted(name for name, model in ARCH_MODEL_REGISTRY.items() if model in _SHARING)
        raise RecipeError(
            f"translator.training.architecture: fairseq has no {quoted(training.architecture)} that can be "
            f"trained here; expected one of {', '.join(known)}"
        )
    settings = {
        "task": "translation", "source-lang": files.source, "target-lang": files.target,
        "arch": training.architecture,
        "criterion": "label_smoothed_cross_entropy", "label-smoothing": training.label_smoothing,
        "optimizer": training.optimizer, "lr": ",".join(map(str, training.learning_rates)),
        "lr-scheduler": "fixed", "clip-norm": training.clip_norm, "dropout": training.dropout,
        "max-epoch": len(training.learning_rates), "max-tokens": training.max_tokens,
        # fairseq's default of 8 drops the last batch, of the longest pairs, where it has no multiple of 8.
        "required-batch-size-multiple": 1,
        "seed": training.seed, "num-workers": 0, "data-buffer-size": 0,
        # Every save names its path; a path with `${` in it cannot be a setting.
        "save-dir": ".",
    }  # fmt: skip
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    switches = [_SHARING[family], *([] if torch.cuda.is_available() else ["--cpu"])]
    parser = options.get_training_parser()
    arguments = [".", *words, *switches, *_OPTIMIZERS[training.optimizer]]
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, input_args=arguments))


def _build_model(task: _JointTranslation, cfg: Any) -> Any:
    model = task.build_model(cfg.model)
    if cfg.model.arch.startswith("fconv"):
        # fairseq's fconv ties only the decoder's input and output embedding; with a joint dictionary the
        # encoder's can be tied too, so that a name has the same vector where it is read and written.
        model.encoder.embed_tokens.weight = model.decoder.embed_tokens.weight
    return model


def _dataset(files: PieceFiles, split: str, dictionary: Dictionary) -> LanguagePairDataset:
    sides: list[Any] = []
    for language in files.languages:
        rows = [
            torch.tensor([*map(dictionary.index, pieces), dictionary.eos()])
            for pieces in files.lines(split, language)
        ]
        sizes = np.array([len(row) for row in rows])
        sides += [ListDataset(rows, sizes), sizes, dictionary]
    return LanguagePairDataset(*sides, left_pad_source=True, left_pad_target=False)


def _bar(run: _Run, training: TranslatorTraining, progress: bool) -> "tqdm[Any]":
    total = len(run.batches) * len(training.learning_rates)
    return tqdm(
        total=total,
        initial=run.updates,
        unit="update",
        disable=bar_disabled(progress),
        file=sys.stderr,
        mininterval=2,
    )


def _show(bar: "tqdm[Any]", epoch: int, epochs: int, sums: EpochSums) -> None:
    bar.set_description(f"epoch {epoch}/{epochs}", refresh=False)
    rate = sums.pieces / max(sums.seconds, 1e-9)
    bar.set_postfix_str(f"{rate:,.0f} pieces/s, perplexity {sums.perplexity:.2f}", refresh=False)
    bar.update()


@contextlib.contextmanager
def _quiet_fairseq(path: Path) -> Iterator[None]:
    """Redirect logs and warnings of fairseq and its packages from the terminal to a file."""
    handler = TrainerLog(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("fairseq", "hydra", "py.warnings")]
    before = [(logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, (propagate, level) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate, logger.level = propagate, level
        handler.close()
