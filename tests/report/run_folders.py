"""Run folders in the format of ``tagger/run.py``, without training: counts from a seeded generator."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from backattn.recipe import TaggerRecipe, as_json

TYPES = ("LOC", "ORG", "PER")
RECIPE = {
    "name": "es",
    "corpus": {"train": "a", "dev": "b", "test": "c", "source": "made here"},
    "translator": {"kind": "fairseq", "checkpoint": "es/translator", "source": "es"},
    "english": {"checkpoint": "english/tagger.safetensors"},
    "tagger": {"characters": "cnn"},
}


def draw_counts(skill: float, seed: int, sentences: int = 200) -> np.ndarray:
    """tp, fp, fn of each sentence; what is hard is the same for every skill. Shape: (sentences, 3)"""
    gold = np.random.default_rng(0).integers(0, 4, sentences)
    rng = np.random.default_rng([seed, int(skill * 1000)])
    tp = rng.binomial(gold, skill)
    return np.stack([tp, rng.binomial(gold, 0.7 * (1 - skill)), gold - tp], axis=1)


def make_run(
    runs: Path,
    inputs: str = "words",
    seed: int = 1,
    *,
    sentences: int = 500,
    epochs: int = 3,
    skill: float = 0.6,
    counts: np.ndarray | None = None,
    dev: np.ndarray | None = None,
    groups: dict[str, np.ndarray] | None = None,
    types: dict[str, tuple[int, int, int]] | None = None,
    store: str = "1-abcdef0123456789",
    tagger: dict[str, Any] | None = None,
    recipe: dict[str, Any] | None = None,
    **request: Any,
) -> Path:
    """Write one finished run; keywords of the request replace or add its keys.

    :param dev: counts of the sentences of dev; None for those of test.
    :param recipe: tables of the recipe that lies beside it; None for none.
    """
    counts = draw_counts(skill, seed) if counts is None else np.asarray(counts)
    settings = {
        "embeddings": [],
        "fusion": "output",
        "hidden": 256,
        "learning_rate": 0.1,
        "characters": "cnn",  # as the recipe es has them
        "epochs": epochs,
        "sentences": sentences,
        **(tagger or {}),
    }
    settings = as_json(TaggerRecipe()) | settings
    whole = {
        "lang": "es", "corpus": "c0ffee" * 8,
        "inputs": inputs, "seed": seed, "sentences": sentences, "tagger": settings,
        "transfer": store if inputs in ("words+transfer", "transfer") else None, "embeddings": {}, **request,
    }  # fmt: skip
    digest = abs(hash(json.dumps(whole, sort_keys=True))) % 16**8
    folder = runs / f"{inputs}-{sentences}-seed{seed}-{digest:08x}"
    folder.mkdir(parents=True)
    signature = (
        f"scheme:IOBES|mode:strict|split:test|inputs:{inputs}|seed:{seed}|epochs:{epochs}|best_epoch:2"
    )
    if types is None:
        shares = np.array_split(counts, len(TYPES))
        sums = {name: part.sum(0).tolist() for name, part in zip(TYPES, shares, strict=True)}
        types = {name: (gold, found, right) for name, (gold, found, right) in sums.items()}
    score = {
        "overall": _measures(counts.sum(0)),
        "groups": {name: _measures(part.sum(0)) for name, part in (groups or {}).items()},
        "types": {name: _measures(part) for name, part in types.items()},
        "signature": signature,
        "sentences": counts.tolist(),
        "group_sentences": {name: part.tolist() for name, part in (groups or {}).items()},
    }
    value = {
        "format": 1,
        "request": whole,
        "epochs": epochs,
        "best_epoch": min(2, epochs),
        "environment": {"device": "cpu"},
        "seconds": 12.5,
        "dev": score
        if dev is None
        else {**score, "overall": _measures(dev.sum(0)), "sentences": dev.tolist()},
        "test": score,
    }
    rng = np.random.default_rng(seed)
    f1 = score["overall"]["f1"]
    rise = f1 * (1 - np.exp(-4 * np.arange(1, epochs + 1) / epochs)) + rng.normal(0, 0.008, epochs)
    rows = [{"epoch": i, "loss": 1 / i, "dev_f1": float(max(0, y))} for i, y in enumerate(rise, 1)]
    (folder / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "run.json").write_text(json.dumps(value) + "\n", "utf-8")
    if recipe is not None:
        (folder / "recipe.json").write_text(json.dumps({**RECIPE, **recipe}) + "\n", "utf-8")
    return folder


def _measures(counts: Any) -> dict[str, Any]:
    tp, fp, fn = (int(value) for value in counts)
    f1 = 2 * tp / (2 * tp + fp + fn) if tp else 0.0
    return {"precision": 0.0, "recall": 0.0, "f1": f1, "support": tp + fn, "tp": tp, "fp": fp, "fn": fn}
