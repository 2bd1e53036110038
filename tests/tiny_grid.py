"""A grid of four runs that train in a second each, its recipe with stores, and what the runs leave behind."""

import json
from pathlib import Path

import pytest

from backattn.experiments.grid import RunGrid
from backattn.recipe import Recipe, as_json, from_json
from fakes import make_corpus, make_recipe
from users_folder import fill

WORDS = ["anna singt in ulm", "ben singt", "carl und dora singen heute", "emil singt nicht"]
CORPUS = make_corpus(WORDS)
GRID = RunGrid(inputs=("words", "words+transfer"), sentences=("all",), seeds=(1, 2))
# Depend on the clock.
_TIMES = ("seconds", "tokens_per_second")


def put_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe with its stores of translations and of T; the folder is that of the cache and of the data."""
    monkeypatch.setenv("BACKATTN_CACHE", str(folder))
    for name in ("toy/translator/checkpoint.pt", "toy/english/tagger.pt"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"model")
    (folder / "toy.vec").write_text("3 2\nanna 1 2\nben 3 4\nsingt 5 6\n")
    monkeypatch.setenv("BACKATTN_DATA", str(folder))
    tagger = {"epochs": 3, "hidden": 8, "word_dimensions": 8, "characters": "cnn"}
    embeddings = {"fasttext": {"vectors": "toy.vec"}}
    made = from_json({**as_json(make_recipe()), "tagger": tagger, "embeddings": embeddings}, "toy")
    fill(made, CORPUS)
    return made


def left_behind(cache: Path) -> dict[str, bytes]:
    """All files of the runs; of those with a clock only what is not of the clock."""
    found = {}
    for path in sorted((cache / "toy/runs").rglob("*")):
        if path.is_file() and path.name != "lock":
            data = path.read_bytes()
            if path.name in ("run.json", "epochs.jsonl"):
                rows = [json.loads(line) for line in data.decode().splitlines()]
                data = json.dumps(
                    [{k: v for k, v in row.items() if k not in _TIMES} for row in rows]
                ).encode()
            found[str(path.relative_to(cache))] = data
    return found
