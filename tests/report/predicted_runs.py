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
    build_translations(plan.translation, FakeTranslator, "cpu")
    translations = StoreReader(plan.translation.path)
    build_transfers(plan.transfer, translations, recipe.transfer, FakeEnglishTagger, "cpu")


def make_predicted_run(runs: Path, corpus: Corpus, inputs: str, test: Tags, dev: Tags, **options: Any) -> Path:
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
