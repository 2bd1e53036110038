"""A user's folder with the recipe ``es``: real models that take seconds, their stores, and runs on them."""

from itertools import product
from pathlib import Path

import pytest

from backattn.english.flair import FlairTagger
from tiny_english import random_tagger
from users_folder import run

WIDTH = 32  # of T
# Every capital is a name: what a tagger of characters learns from so little.
_NAMES = ("Ana Ruiz", "Beto Sanz", "Carla Vega", "Dora Gil", "Emilio Paz", "Flora Mas")
_PLACES = ("Lugo", "Vigo", "Soria", "Ceuta", "Jaca", "Toledo")
_RECIPE = """# Spanish of the tests
[corpus]
train = "es.train"
dev = "es.train"
test = "es.train"
source = "made here"
[translator]
kind = "copy"
source = "es"
[english]
checkpoint = "english/tagger.safetensors"
[tagger]
hidden = 8
word_dimensions = 8
epochs = 30
learning_rate = 0.5
"""


def sentences() -> list[list[str]]:
    """The sentences of the corpus."""
    return [[*name.split(), "vive", "en", place, "."] for name, place in product(_NAMES[:3], _PLACES[:3])] + [
        [*name.split(), "vive", "en", place, "."] for name, place in zip(_NAMES, _PLACES, strict=True)
    ]


def make_spanish_home(folder: Path, patch: pytest.MonkeyPatch, *, inputs: str = "words") -> Path:
    """Write it, go there, compute the features and train.

    :param inputs: of the one run.
    """
    patch.chdir(folder)
    for name in ("BACKATTN_DATA", "BACKATTN_CACHE"):
        patch.delenv(name, raising=False)
    for place in ("pipelines", "data", "cache/english"):
        (folder / place).mkdir(parents=True)
    (folder / "pipelines/es.toml").write_text(_RECIPE)
    blocks = [f"{a} B-PER\n{b} I-PER\n{v} O\n{e} O\n{p} B-LOC\n{s} O\n" for a, b, v, e, p, s in sentences()]
    (folder / "data/es.train").write_text("\n".join(blocks))
    tagger = FlairTagger(random_tagger(folder), name="here", batch_tokens=500, device="cpu")
    data = tagger.dump()
    (folder / "cache/english/tagger.safetensors").write_bytes(data)
    status, _, err = run("features", "es", "--device", "cpu")
    assert status == 0, err
    status, _, err = run(
        "train", "es", "--inputs", inputs, "--seeds", "1", "--threads", "1", "--device", "cpu"
    )
    assert status == 0, err
    return folder


def transfer_store() -> Path:
    """The file of T, relative to the home."""
    (store,) = Path("cache/es/transfer").glob("*.h5")
    return store
