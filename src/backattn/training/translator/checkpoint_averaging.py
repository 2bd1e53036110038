"""Average the weights of several epochs into one checkpoint of fairseq's format. Does not import fairseq."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from backattn.common.errors import ModelError
from backattn.models.safe_checkpoint import load_safely
from backattn.models.training_manifest import train_anew
from backattn.recipe import TranslatorTraining

# The file of the work folder that a killed training resumes from.
STATE = "state.pt"


def all_epochs(training: TranslatorTraining) -> range:
    """The epochs of a training, from 1."""
    return range(1, len(training.learning_rates) + 1)


def averaged_epochs(training: TranslatorTraining) -> range:
    """The epochs whose weights are averaged into the result: the last ``training.average``, or all."""
    return all_epochs(training)[-training.average :]


def epoch_weights(work: Path, epoch: int) -> Path:
    """The file of the work folder with the weights of one epoch."""
    return work / f"epoch{epoch}.pt"


def write_checkpoint(epochs: Sequence[int], *, work: Path, path: Path) -> int:
    """Write the average of some epochs' weights as a fairseq checkpoint; a single epoch's stay exact.

    It holds weights and fairseq's own settings, no optimiser state and no local path; it loads under
    ``weights_only=True`` with ``argparse.Namespace`` allowed.

    :returns: the number of parameters; tied weights count once.
    :raises ModelError: a file of the work folder is damaged, or holds code instead of data.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):
        model = _average([epoch_weights(work, epoch) for epoch in epochs])
        state = load_safely(work / STATE, advice=train_anew(work))
    try:
        state["cfg"]["checkpoint"]["save_dir"] = state["cfg"]["model"].save_dir = "."
        kept = {key: state[key] for key in ("args", "cfg", "criterion", "task_state")}
        # fairseq adds an entry each time that a training is resumed; a resumed one must give the same file.
        kept["optimizer_history"] = state["optimizer_history"][-1:]
    except (KeyError, TypeError, AttributeError):
        raise ModelError(f"{work / STATE}: damaged; {train_anew(work)}") from None
    torch.save({**kept, "model": model, "extra_state": {}, "last_optimizer_state": None}, path)
    return sum({tensor.data_ptr(): tensor.numel() for tensor in model.values()}.values())


def _average(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Average the weights of several epochs: a flatter minimum than the last epoch's.

    Weights that share their storage still share it in the average.
    """
    states = [load_safely(path, advice=train_anew(path.parent))["model"] for path in paths]
    means: dict[int, Tensor] = {}
    result = {}
    try:
        for name, tensor in states[-1].items():
            if tensor.data_ptr() not in means:
                mean = torch.stack([state[name].float() for state in states]).mean(0)
                means[tensor.data_ptr()] = mean.to(tensor.dtype)
            result[name] = means[tensor.data_ptr()]
    except (KeyError, TypeError, AttributeError, RuntimeError):
        raise ModelError(
            f"{paths[-1]}: does not match the epochs before it; {train_anew(paths[-1].parent)}"
        ) from None
    return result
