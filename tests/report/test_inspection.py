"""One sentence through real stores: what the page and the text say of it, and how it is found."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from msgspec import structs
from predicted_runs import make_stores
from run_folders import make_run

from backattn.common.errors import CorpusError, MissingError, ModelError, StaleError
from backattn.corpus import Corpus, Sentence
from backattn.features.build import build_transfers
from backattn.features.plan import make_plan
from backattn.recipe import Recipe
from backattn.report.inspection import OpenStores, find_sentence, inspect_sentence
from backattn.report.sentence_list import inspect
from backattn.report.terminal_text import bracketed, pad, width
from backattn.store.reader import StoreReader
from fakes import FakeEnglishTagger, FakeTranslator, make_recipe

TRAIN = Sentence(("Uma", "<b>", "&", "x"), ("S-PER", "O", "O", "O"))
DEV = Sentence(("nothing",), ("O",))
TEST = Sentence(tuple("abcdefghij"), ("O", "B-PER", "E-PER", *["O"] * 7))
CORPUS = Corpus((TRAIN, TEST), (DEV,), (TRAIN, TEST))


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe whose stores hold the corpus."""
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    recipe = make_recipe()
    make_stores(recipe, CORPUS, tmp_path)
    return recipe


def write_predictions(run: Path, tags: tuple[str, ...]) -> None:
    rows = "".join(f"{t}\t{g}\t{p}\n" for t, g, p in zip(TEST.tokens, TEST.tags, tags, strict=True))
    (run / "predictions.test.tsv").write_text(f"other\tO\tO\n\n{rows}", "utf-8")
    (run / "predictions.dev.tsv").write_text("nothing\tO\tS-LOC\n", "utf-8")


def test_an_inspection_holds_what_the_stores_hold(recipe: Recipe) -> None:
    found = inspect_sentence(recipe, TRAIN, OpenStores.of(make_plan(recipe, CORPUS)), [])
    (expected,) = FakeTranslator().translate([TRAIN.tokens])
    assert found.english == expected.english == ("amU", "&")
    assert found.english_tags == ("O", "O")
    assert found.attention.shape == (5, 3)
    np.testing.assert_allclose(found.attention, expected.attention, atol=1e-3)  # float16 in the store
    assert found.predictions == ()


def test_pages_are_well_formed_escaped_and_complete(recipe: Recipe, tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy" / "runs", "words+transfer")
    write_predictions(run, ("O", "S-LOC", *["O"] * 8))
    made = inspect(recipe, CORPUS, ["train:1", "test:2"], run, tmp_path)
    assert made.pages[0] == tmp_path / "toy" / "report" / f"sentence-{TRAIN.key.hex()[:8]}.html"
    html = [path.read_text("utf-8") for path in made.pages]
    trees = [ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n")) for page in html]
    assert "<b>" not in html[0]
    assert "&lt;b&gt;" in html[0]
    assert "has no prediction for it: a run predicts dev and test" in html[0]
    rows = [row.findall("td") for row in trees[1].iter("tr") if row.find("th") is not None]
    assert list(map(len, rows)) == [1, *[6] * 11]  # a corner, then (m + 1) x (n + 1), with the sentence's end
    expected = made.inspections[1].attention
    values = [[float(cell.text or 0) for cell in row] for row in rows[1:]]
    np.testing.assert_allclose(values, np.where(expected < 0.005, 0, expected), atol=0.0051)
    assert "Translated in 2 segments" in html[1]
    assert "BiLSTM+CRF+BAN (words+transfer" in html[1]
    assert "≠ S-LOC" in html[1]
    assert "<small>LOC: type and boundary</small>" in html[1]
    assert f'<a rel="next" href="{made.pages[1].name}">' in html[0]
    assert f'<a rel="prev" href="{made.pages[0].name}">' in html[1]


def test_the_text_form_names_the_heaviest_english_tokens(recipe: Recipe, tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy" / "runs", "words+transfer")
    write_predictions(run, ("O", "S-LOC", *["O"] * 8))
    made = inspect(recipe, CORPUS, ["a b c d e f g h i j"], run, tmp_path)
    text, found = made.to_text(), made.inspections[0]
    assert found.places == ("train:2", "test:2")
    assert "toy train:2, test:2: 10 tokens, 5 in English" in text
    assert "gold            a [b c PER] d" in text
    assert "BiLSTM+CRF+BAN  a [b LOC] c d" in text
    row = found.attention[1, :-1]
    best = int(row.argmax())
    assert f"b      B-PER  S-LOC           {found.english[best]} {row[best]:.2f}, " in text
    assert text.endswith(f"page: {made.pages[0]}")
    (shown,) = made.to_json()[0]["predictions"]
    assert (shown["run"], shown["tags"][1]) == (run.name, "S-LOC")
    other = r"words\+transfer-500-seed1-\w+ has read another T than the one shown here"
    assert re.search(other, text)
    base = make_run(tmp_path / "other" / "runs", "words")
    write_predictions(base, ("O", "S-LOC", *["O"] * 8))
    assert "another T" not in inspect(recipe, CORPUS, ["test:2"], base, tmp_path / "other").to_text()
    drawn = make_run(tmp_path / "toy" / "runs", "random", transfer="random-512")
    write_predictions(drawn, ("O", "S-LOC", *["O"] * 8))
    assert "another T" not in inspect(recipe, CORPUS, ["test:2"], drawn, tmp_path).to_text()
    store = make_plan(recipe, CORPUS).transfer.recipe_id
    own = make_run(tmp_path / "toy" / "runs", "words+transfer", store=store)
    write_predictions(own, ("O", "S-LOC", *["O"] * 8))
    assert "another T" not in inspect(recipe, CORPUS, ["test:2"], own, tmp_path).to_text()


def test_an_empty_translation_is_told(recipe: Recipe, tmp_path: Path) -> None:
    made = inspect(recipe, CORPUS, ["nothing"], None, tmp_path)
    assert "English  (nothing)" in made.to_text()
    assert "The translation is empty, so T = 0." in made.to_text()
    ElementTree.fromstring(made.pages[0].read_text("utf-8").removeprefix("<!DOCTYPE html>\n"))


@pytest.mark.parametrize("attention", ["uniform", "diagonal"])
def test_what_t_was_made_with_is_said(recipe: Recipe, tmp_path: Path, attention: str) -> None:
    """A replacement of A has no end of the sentence; the page must not say that eos was applied to it."""
    made = inspect(recipe, CORPUS, ["test:2"], None, tmp_path)
    assert "T was made with this A, eos = drop, normalise = none, states = lstm." in made.to_text()
    assert "T was made with this A, eos = drop, normalise = none, states = lstm." in made.pages[0].read_text(
        "utf-8"
    )

    transfer = structs.replace(recipe.transfer, attention=attention, eos="keep", normalise="source")
    other = structs.replace(recipe, transfer=transfer)
    plan = make_plan(other, CORPUS)
    translations = StoreReader(plan.translation.path)
    build_transfers(plan.transfer, translations, transfer, FakeEnglishTagger, "cpu")
    made = inspect(other, CORPUS, ["test:2"], None, tmp_path)
    told = (
        f"T was not made with this A: transfer.attention = {attention} replaced it, normalise = "
        "source, states = lstm; that has no end of the sentence, so eos was not applied."
    )
    assert told in made.to_text()
    page = made.pages[0].read_text("utf-8")
    assert told in page
    assert "eos = keep" not in page
    assert made.to_json()[0]["transfer"]["attention"] == attention


def test_sentences_are_found_by_number_and_by_tokens() -> None:
    recipe = make_recipe()
    assert find_sentence(recipe, CORPUS, "test:2") is TEST
    assert find_sentence(recipe, CORPUS, "Uma <b> & x") is TRAIN
    with pytest.raises(CorpusError, match=r"^test:3: test of toy has sentences 1 to 2$"):
        find_sentence(recipe, CORPUS, "test:3")
    with pytest.raises(CorpusError, match=r"test:0: test of toy has sentences 1 to 2"):
        find_sentence(recipe, CORPUS, "test:0")
    with pytest.raises(CorpusError, match=r"'Uma': no sentence of toy; expected SPLIT:NUMBER, as in test:12"):
        find_sentence(recipe, CORPUS, "Uma")


def test_chinese_is_found_with_and_without_spaces() -> None:
    recipe = make_recipe(corpus={"train": "a", "dev": "b", "test": "c", "source": "s", "unit": "character"})
    assert find_sentence(recipe, CORPUS, "abcdefghij") is TEST
    assert find_sentence(recipe, CORPUS, "a b c d e f g h i j") is TEST


def test_what_is_missing_is_told(recipe: Recipe, tmp_path: Path) -> None:
    new = Sentence(("new",), ("O",))
    corpus = Corpus((new,), (DEV,), (TEST,))
    with pytest.raises(StaleError, match=r"no translation of 'new'; run `backattn features toy`"):
        inspect(recipe, corpus, ["new"], None, tmp_path)
    make_plan(recipe, CORPUS).transfer.path.unlink()
    with pytest.raises(StaleError, match=r"no transfer of 'nothing'; run `backattn features toy`"):
        inspect(recipe, CORPUS, ["nothing"], None, tmp_path)


def test_a_run_without_its_files_is_told(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"gone: holds no run; `backattn train LANG` makes it"):
        inspect(recipe, CORPUS, ["dev:1"], tmp_path / "gone", tmp_path)
    run = make_run(tmp_path / "toy" / "runs")
    with pytest.raises(MissingError, match=r"predictions\.dev\.tsv: missing; remove the folder"):
        inspect(recipe, CORPUS, ["dev:1"], run, tmp_path)
    (run / "predictions.test.tsv").write_text("only\ttwo\n", "utf-8")
    (run / "predictions.dev.tsv").write_text("nothing\tO\tO\n", "utf-8")
    with pytest.raises(ModelError, match=r"expected token, gold and predicted tag"):
        inspect(recipe, CORPUS, ["dev:1"], run, tmp_path)


def test_words_know_their_width() -> None:
    assert width("北京a") == 5
    assert pad("北", 4) == "北  "
    assert bracketed("北京好", ("B-GPE", "E-GPE", "O"), "") == "[北京 GPE]好"
    # What scoring takes for no entity is none on a page.
    assert bracketed("abcd", ("S-A", "I-A", "B-A", "E-B")) == "[a A] b c d"
