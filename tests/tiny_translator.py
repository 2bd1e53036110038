"""Real fairseq translators, small and with random weights, in folders as ``translator train`` writes them."""

import argparse
import tarfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from fairseq import options, tasks
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

from backattn.recipe import FairseqRecipe
from backattn.training.translator.vocabulary import train_vocabulary
from backattn.translation.sentencepieces import SentencePieceModel

TEXT = (
    "der alte Mann wohnt in Bremen und die junge Frau fährt morgen nach Köln",
    "the old man lives in Bremen and the young woman goes to Cologne tomorrow",
    "Anna Weber arbeitet seit Montag bei Nordlicht in der Hauptstraße",
    "Anna Weber has worked at Nordlicht in the main street since Monday",
    "am Rhein , an der Elbe und am Main ; 1 2 3 4 5 6 7 8 9 0 !",
)
SENTENCES = [
    tuple(text.split())
    for text in (
        "Anna Weber wohnt in Bremen",
        "Köln",
        "die junge Frau fährt morgen nach Köln , der alte Mann nach Bremen",
        "am Rhein",
        "Nordlicht arbeitet seit Montag an der Elbe und in Bremen !",
        "日 wohnt in Bremen",  # unknown to the vocabulary
        "der der der",
    )
]
SHAPES = {
    "fconv": {
        "arch": "fconv",
        "encoder-embed-dim": 12,
        "decoder-embed-dim": 12,
        "decoder-out-embed-dim": 8,
        "encoder-layers": "[(16, 3)] * 2",
        "decoder-layers": "[(16, 3)] * 3",
        "max-source-positions": 60,
        "max-target-positions": 90,
    },
    "transformer": {
        "arch": "transformer",
        "encoder-embed-dim": 12,
        "decoder-embed-dim": 12,
        "encoder-ffn-embed-dim": 16,
        "decoder-ffn-embed-dim": 16,
        "encoder-layers": 2,
        "decoder-layers": 3,
        "encoder-attention-heads": 2,
        "decoder-attention-heads": 3,
        "max-source-positions": 60,
        "max-target-positions": 90,
    },
}


def need_safe_archives() -> None:
    """Skip a test where tarfile has no filters, so that fairseq's archives are refused."""
    if not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python, before 3.11.4, unpacks no archive")


def make_recipe(**changes: Any) -> FairseqRecipe:
    """A recipe of such a translator."""
    defaults: dict[str, Any] = {"checkpoint": "toy", "source": "de", "beam": 3, "max_len_b": 4}
    return FairseqRecipe(**{**defaults, **changes})


def make_translator(folder: Path, kind: str = "fconv", *, source: str = "de", seed: int = 1) -> Path:
    """Write checkpoint.pt, two dictionaries and joint.model of a ``fconv`` or ``transformer``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in _made(kind, source, seed).items():
        (folder / name).write_bytes(data)
    return folder


@cache
def _made(kind: str, source: str, seed: int) -> dict[str, bytes]:
    """The files of a translator, which takes a second to make."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        train_vocabulary(TEXT, folder / "joint.model", 150)
        write_dictionaries(folder, source, SentencePieceModel.load(folder / "joint.model").pieces)
        write_checkpoint(folder / "checkpoint.pt", kind, source=source, seed=seed)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_dictionaries(folder: Path, source: str, pieces: Callable[[str], Iterable[str]]) -> None:
    dictionary = Dictionary()
    for line in TEXT:
        for token in line.split():
            for piece in pieces(token):
                dictionary.add_symbol(piece)
    dictionary.finalize(padding_factor=8)
    for language in (source, "en"):
        dictionary.save(str(folder / f"dict.{language}.txt"))


def write_checkpoint(path: Path, kind: str, *, source: str, seed: int, old: bool = False) -> None:
    """A model whose attention and translations differ from sentence to sentence.

    :param old: as fairseq wrote it in 2019: a Namespace, and not in a zip file.
    """
    shape = [word for key, value in SHAPES[kind].items() for word in (f"--{key}", str(value))]
    words = [str(path.parent), "--source-lang", source, "--target-lang", "en", "--cpu", *shape]
    parser = options.get_training_parser()
    arguments = options.parse_args_and_arch(parser, input_args=words)
    cfg = convert_namespace_to_omegaconf(arguments)
    task = tasks.setup_task(cfg.task)
    torch.manual_seed(seed)
    model = task.build_model(cfg.model)
    if kind == "fconv":
        _scatter(model)
    else:
        _teach(model, task.source_dictionary)
    plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    assert isinstance(plain["model"], argparse.Namespace)  # type: ignore[call-overload, index]
    settings = {"args": arguments} if old else {"args": None, "cfg": plain}
    state = {**settings, "model": model.state_dict(), "extra_state": {}}
    state |= {"optimizer_history": [{"lr_scheduler_state": {}}], "task_state": {}}
    torch.save(state, path, _use_new_zipfile_serialization=not old)


def _scatter(model: torch.nn.Module) -> None:
    """Random weights so large that translations are long and differ; most run to their length limit."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * (0.5 if "embed" in name else 1.0))
            if name.endswith("weight_g"):
                parameter.mul_(3)


def _teach(model: torch.nn.Module, dictionary: Dictionary) -> None:
    """A random transformer repeats one piece for ever; a second of nonsense lessons makes it say words."""
    sentences = torch.randint(dictionary.nspecial, len(dictionary), (16, 9))
    sentences[:, -1] = dictionary.eos()
    lengths = torch.full((16,), 9)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        answers = sentences.roll(1, 0)
        logits = model(sentences, lengths, answers.roll(1, 1))[0]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
