"""New text through a run that reads frozen features: the same tags as when it was scored."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backattn.common.errors import MissingError, ModelError, RecipeError, StaleError, StoreError
from backattn.embeddings.fasttext import FastText
from backattn.experiments.grid import RunGrid
from backattn.experiments.runs import train_grid
from backattn.features import pipeline
from backattn.features.build import build_embeddings
from backattn.features.plan import make_plan
from backattn.models.vouchers import NOBODY
from backattn.recipe import Recipe, as_json, from_json
from backattn.store.reader import StoreReader
from backattn.tagger.run import Run, RunFolder
from backattn.tagging import TextOptions, TextTagger, tag_text
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
    return train_grid(recipe, CORPUS, RunGrid(("words",), ("all",), (1,)), device="cpu").whole()[0]


def tag(run: Run, text: str) -> str:
    out, options = io.StringIO(), TextOptions(input="tokens", batch=2)
    source = io.BytesIO(text.encode())
    tag_text(run.folder, source, "text", out, options, device="cpu", vouchers=NOBODY)
    return out.getvalue()


def test_its_tags_are_those_of_the_stored_features(run: Run) -> None:
    assert run.test.signature.split("|")[6] == "model:fastText+BiLSTM+CRF"
    told = tag(run, "".join(" ".join(sentence.tokens) + "\n" for sentence in CORPUS.test))
    scored = (run.folder / "predictions.test.tsv").read_text("utf-8")
    expected = [line.split("\t")[::2] for line in scored.splitlines() if line]
    assert [line.split("\t") for line in told.splitlines() if line] == expected


def test_known_sentences_are_taken_from_the_store(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is loaded for them; and what is computed is equal."""
    known = [sentence.tokens for sentence in CORPUS.unique]
    loaded: list[str] = []
    load = pipeline.load_embedder
    monkeypatch.setattr(pipeline, "load_embedder", lambda *it: loaded.append(it[1]) or load(*it))
    tagger = TextTagger(run.folder)
    stored = tagger.tag(known)
    assert loaded == []
    mixed = tagger.tag([known[0], ("neu",), known[-1]])
    assert loaded == ["fasttext"]
    assert [p.tags for p in (mixed[0], mixed[2])] == [stored[0].tags, stored[-1].tags]
    (store,) = run.folder.parents[1].glob("embeddings/fasttext/*.h5")
    store.rename(store.with_suffix(".away"))
    computed = TextTagger(run.folder).tag(known)
    assert [p.tags for p in computed] == [p.tags for p in stored]
    for one, other in zip(computed, stored, strict=True):
        assert [e.span for e in one.entities] == [e.span for e in other.entities]
        assert [e.score for e in one.entities] == pytest.approx([e.score for e in other.entities], abs=1e-6)


def test_a_damaged_store_is_refused(
    run: Run, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte is looked at before the first vector of it is used."""
    stage = make_plan(recipe, CORPUS).embeddings["fasttext"]
    stage.path.unlink()
    monkeypatch.setattr(
        "backattn.store.writer.BIG", 1
    )  # as of a store of everyday size, not looked at when opened
    build_embeddings(stage, lambda: FastText(tmp_path / "toy.vec"), "cpu")
    with stage.path.open("r+b") as file:
        file.seek(StoreReader(stage.path)._arrays["vectors"]["offset"])
        file.write(b"\xff\xff")
    assert tag(run, "neu\n")
    with pytest.raises(StoreError, match=r"vectors differs from its digest; delete it"):
        tag(run, "anna singt in ulm\n")


def test_words_without_a_vector_are_tagged_too(run: Run) -> None:
    assert tag(run, "neu\n").startswith("neu\t")


def test_other_vectors_in_their_place_are_refused(run: Run, tmp_path: Path) -> None:
    """The same words and width: nothing else would tell."""
    head, *lines = (tmp_path / "toy.vec").read_text().splitlines()
    rows = [line.split(" ", 1)[1] for line in lines]
    permuted = [f"{word} {row}" for word, row in zip(WORDS, rows[1:] + rows[:1], strict=True)]
    (tmp_path / "toy.vec").write_text("\n".join([head, *permuted]) + "\n")
    with pytest.raises(
        StaleError, match=r"has learnt from fasttext of the store 1-[0-9a-f]{12}; .* Put back"
    ) as e:
        tag(run, "anna singt\n")
    assert str(run.folder) in str(e.value)
    (tmp_path / "toy.vec").write_text("\n".join([head, *lines]) + "\n")
    assert tag(run, "anna singt\n")


def test_a_run_on_links_cannot_tag_new_text(run: Run, tmp_path: Path) -> None:
    files = RunFolder(run.folder)
    recipe = json.loads(files.recipe.read_text("utf-8"))
    recipe["transfer"] |= {"attention": "links", "links": {"path": "pairs"}}
    files.recipe.write_text(json.dumps(recipe), "utf-8")
    tagger = TextTagger(run.folder)  # it reads no T
    tagger._model = SimpleNamespace(needs_transfer=True, run=run)  # type: ignore[assignment]
    with pytest.raises(RecipeError, match=r"was trained on an aligner's links .* nobody has linked new text"):
        tagger._refuse_other_models(run.folder)


def test_vectors_that_are_gone_are_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "toy.vec").unlink()
    with pytest.raises(
        MissingError, match=r"toy\.vec: .*; the run needs exactly the file that it was trained with"
    ):
        tag(run, "anna singt\n")


def test_a_run_of_a_version_with_other_keys_says_so(run: Run) -> None:
    files = RunFolder(run.folder)
    recipe = json.loads(files.recipe.read_text("utf-8"))
    recipe["tagger"]["average"] = 5
    files.recipe.write_text(json.dumps(recipe), "utf-8")
    with pytest.raises(
        RecipeError,
        match=r"recipe\.json: tagger\.average: unknown key; .*; the run was made by backattn [0-9.+a-z]+, "
        r"this is [0-9.+a-z]+: .* tag with that version, or train again",
    ):
        TextTagger(run.folder)


def test_embeddings_that_the_recipe_does_not_name_are_told(run: Run) -> None:
    files = RunFolder(run.folder)
    recipe = json.loads(files.recipe.read_text("utf-8"))
    recipe["tagger"] |= {"embeddings": [], "word_dimensions": 10}
    files.recipe.write_text(json.dumps(recipe), "utf-8")
    with pytest.raises(ModelError, match=r"has read 'fasttext', which tagger\.embeddings of its"):
        tag(run, "anna singt\n")
