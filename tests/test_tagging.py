"""New text through a run that reads frozen features: the same tags as when it was scored."""

import io
from pathlib import Path

import numpy as np
import pytest

from backattn.errors import BackattnError
from backattn.experiments import Grid, train_grid
from backattn.features.build import build_embeddings
from backattn.features.embeddings.fasttext import FastText
from backattn.features.plan import make_plan
from backattn.recipe import Recipe, as_json, from_json
from backattn.tagger.run import Run
from backattn.tagging import tag_text
from fakes import make_corpus, make_recipe

CORPUS = make_corpus(["anna singt in ulm", "ben singt", "carl und dora singen"], test=["emil singt", "ben"])
WORDS = ("anna", "ben", "singt", "ulm", "emil")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe without a translator that is there; its vectors, and their store."""
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BACKATTN_DATA", str(tmp_path))
    rows = np.random.default_rng(0).normal(size=(len(WORDS), 4))
    lines = [f"{word} {' '.join(map(str, row))}\n" for word, row in zip(WORDS, rows, strict=True)]
    (tmp_path / "toy.vec").write_text(f"{len(WORDS)} 4\n{''.join(lines)}")
    tagger = {"epochs": 2, "hidden": 8, "word_dimensions": 0, "embeddings": ["fasttext"]}
    tables = {**as_json(make_recipe()), "tagger": tagger, "embeddings": {"fasttext": {"vectors": "toy.vec"}}}
    made = from_json(tables, "toy")
    stage = make_plan(made, CORPUS).embeddings["fasttext"]
    build_embeddings(stage, lambda: FastText(tmp_path / "toy.vec"), "cpu")
    return made


@pytest.fixture
def run(recipe: Recipe) -> Run:
    """One that reads nothing but the vectors."""
    return train_grid(recipe, CORPUS, Grid(("words",), (0,), (1,)), device="cpu").whole()[0]


def tag(run: Run, text: str) -> str:
    out = io.StringIO()
    source = io.StringIO(text)
    source.name = "text"  # type: ignore[misc]
    tag_text(run.folder, source, out, form="lines", device="cpu", trust=False, batch=2)
    return out.getvalue()


def test_its_tags_are_those_of_the_stored_features(run: Run) -> None:
    assert run.test.signature.split("|")[6] == "model:fastText+BiLSTM+CRF"
    told = tag(run, "".join(" ".join(sentence.tokens) + "\n" for sentence in CORPUS.test))
    scored = (run.folder / "predictions.test.tsv").read_text("utf-8")
    expected = [line.split("\t")[::2] for line in scored.splitlines() if line]
    assert [line.split("\t") for line in told.splitlines() if line] == expected


def test_words_without_a_vector_are_tagged_too(run: Run) -> None:
    assert tag(run, "neu\n").startswith("neu\t")


def test_vectors_that_are_gone_are_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "toy.vec").unlink()
    with pytest.raises(BackattnError, match=r"toy\.vec: "):
        tag(run, "anna singt\n")
