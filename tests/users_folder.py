"""A user's folder with the recipe ``toy``, and the command line in it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from backattn import cli
from backattn.corpus import Corpus
from backattn.corpus.formats import read_corpus
from backattn.english import EnglishTagger
from backattn.features import build
from backattn.features.plan import make_plan
from backattn.recipe import Recipe, load_recipe
from backattn.store.reader import StoreReader
from backattn.translation import Translator
from fakes import FakeEnglishTagger, FakeTranslator

RECIPE = """
[corpus]
train = "toy.train"
dev = "toy.dev"
test = "toy.test"
source = "https://example.org/toy"
[translator]
kind = "fairseq"
checkpoint = "toy/translator"
source = "de"
[english]
checkpoint = "toy/english/tagger.pt"
"""
SINGERS = {"train": "anna ben", "dev": "carl", "test": "anna dora"}


def corpus_of(singers: Mapping[str, str]) -> dict[str, str]:
    """The column files of sentences in which one sings."""
    return {
        split: "\n".join(f"{name} B-PER\nsingt O\n" for name in names.split())
        for split, names in singers.items()
    }


CORPUS = corpus_of(SINGERS)
# One of which no warning speaks.
ORDINARY = corpus_of({"train": "anna ben", "dev": "carl egon", "test": "fritz gerd"})
# The files that make their digests.
MODELS = ("toy/translator/checkpoint.pt", "toy/english/tagger.pt")


def make_home(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tables: str = "",
    *,
    corpus: Mapping[str, str] = CORPUS,
    models: Sequence[str] = MODELS,
) -> Path:
    """Write it, and go there.

    :param tables: TOML behind :data:`RECIPE`.
    :param corpus: the three column files.
    :param models: below the cache; each holds its name.
    """
    monkeypatch.chdir(folder)
    monkeypatch.delenv("BACKATTN_DATA", raising=False)
    monkeypatch.delenv("BACKATTN_CACHE", raising=False)
    files = {
        "pipelines/toy.toml": RECIPE + tables,
        **{f"data/toy.{split}": text for split, text in corpus.items()},
        **{f"cache/{name}": name for name in models},
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def run(*arguments: str) -> tuple[int, str, str]:
    """Status, output and errors of ``backattn`` with these arguments; a traceback fails the test."""
    result = CliRunner().invoke(cli.main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def build_stores(
    *overrides: str,
    translator: Callable[[], Translator] = FakeTranslator,  # type: ignore[assignment]
    tagger: Callable[[], EnglishTagger] = FakeEnglishTagger,
) -> None:
    """The stores of ``toy``, as ``backattn features toy`` makes them with real models."""
    recipe = load_recipe("toy", overrides)
    fill(recipe, read_corpus(recipe.corpus), translator, tagger)


def fill(
    recipe: Recipe,
    corpus: Corpus,
    translator: Callable[[], Translator] = FakeTranslator,  # type: ignore[assignment]
    tagger: Callable[[], EnglishTagger] = FakeEnglishTagger,
) -> None:
    """The translation store and the transfer store of a recipe."""
    plan = make_plan(recipe, corpus)
    build.build_translations(plan.translation, translator, "cpu")
    store = StoreReader(plan.translation.path)
    build.build_transfers(plan.transfer, store, recipe.transfer, tagger, "cpu")
