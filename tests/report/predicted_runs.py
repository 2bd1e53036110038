"""A cache of real stores, and of runs that keep predictions whose counts are those of their run.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from run_folders import make_run

from backattn.corpus import Corpus, Sentence
from backattn.corpus.scoring import score
from backattn.features.build import build_transfers, build_translations
from backattn.features.plan import make_plan
from backattn.recipe import Recipe
from backattn.store.reader import StoreReader
from fakes import FakeEnglishTagger, FakeTranslator

Tags = Sequence[Sequence[str]]


def make_stores(recipe: Recipe, corpus: Corpus, cache: Path) -> None:
    """Write the stores of a recipe below ``BACKATTN_CACHE``, which is ``cache``."""
    for name in ("toy/translator/checkpoint.pt", "toy/english/tagger.pt"):
        path = cache / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"model")
    plan = make_plan(recipe, corpus)
    build_translations(plan.translation, FakeTranslator, "cpu")  # type: ignore[arg-type]
    translations = StoreReader(plan.translation.path)
    build_transfers(plan.transfer, translations, recipe.transfer, FakeEnglishTagger, "cpu")


def make_predicted_run(
    runs: Path, corpus: Corpus, inputs: str, test: Tags, dev: Tags, **options: Any
) -> Path:
    """Write a run that predicts these tags; ``options`` as of :func:`.run_folders.make_run`."""
    scores = score([s.tags for s in corpus.test], test)
    counts = np.array([(c.tp, c.fp, c.fn) for c in scores.sentences])
    types = {name: (c.tp, c.fp, c.fn) for name, c in scores.types.items()}
    made = make_run(
        runs, inputs, counts=counts, types=types, corpus=corpus.digest, sentences=len(corpus.train), **options
    )
    for split, sentences, tags in (("test", corpus.test, test), ("dev", corpus.dev, dev)):
        blocks = [_block(sentence, row) for sentence, row in zip(sentences, tags, strict=True)]
        (made / f"predictions.{split}.tsv").write_text("\n".join(blocks), "utf-8")
    return made


def _block(sentence: Sentence, tags: Sequence[str]) -> str:
    rows = zip(sentence.tokens, sentence.tags, tags, strict=True)
    return "".join(f"{token}\t{gold}\t{tag}\n" for token, gold, tag in rows)


EVIL = "<img/src=x/onerror=alert(1)><script>alert(2)</script>"
# Sentences of test: tokens, gold tags, and what the base and the run with T say.
ROWS = {
    "mended": ("Ana <b> Rio", "S-PER O S-LOC", "O O S-ORG", "S-PER O S-LOC"),
    "broken": ("Luis & Ana vai", "S-PER O S-PER O", "S-PER O S-PER O", "S-PER O O O"),
    "disputed": ("casa mar Rio", "O O S-LOC", "S-PER O O", "O S-PER O"),
    "wrong": (f"{EVIL} de Rio", "B-LOC I-LOC E-LOC", "O B-LOC E-LOC", "O B-LOC E-LOC"),
    "right": ("mar vai", "O O", "O O", "O O"),
    "more mended": ("Ana Luis Rio mar", "S-PER S-PER S-LOC O", "O O O S-LOC", "S-PER S-PER S-LOC O"),
}
CORPUS = Corpus(
    train=(Sentence(("Ana", "em", "Rio"), ("S-PER", "O", "S-PER")), Sentence(("mar",), ("O",))),
    dev=(Sentence(("nothing", "Rio"), ("O", "S-LOC")),),
    test=tuple(Sentence(tuple(row[0].split()), tuple(row[1].split())) for row in ROWS.values()),
)


def make_example(recipe: Recipe, cache: Path) -> tuple[Path, Path]:
    """Write the stores of :data:`CORPUS`, and a base and a run with T that predict :data:`ROWS`."""
    make_stores(recipe, CORPUS, cache)
    runs, dev = cache / "toy" / "runs", [("O", "S-LOC")]
    base, transferred = ([row[side].split() for row in ROWS.values()] for side in (2, 3))
    return (
        make_predicted_run(runs, CORPUS, "words", base, dev),
        make_predicted_run(runs, CORPUS, "words+transfer", transferred, dev),
    )
