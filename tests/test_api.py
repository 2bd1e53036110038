"""The Python API: what it says of a text, its docs as they stand, and each refusal in one line."""

import doctest
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("flair")

import backattn
from backattn import cli
from backattn.common.digests import sentence_key
from backattn.store.reader import StoreReader
from spanish_home import WIDTH, make_spanish_home, sentences, transfer_store
from tiny_english import random_tagger, save_pickle

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs/python.md").read_text("utf-8")
TEXTS = [
    "Ana Ruiz vive en Lugo.  Beto\tSanz vive\r\nen 👩‍🚀 Vigo. Niño",
    "",
    " \n",
    "Dora Gil vive en Soria.",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        yield make_spanish_home(tmp_path_factory.mktemp("home"), patch, inputs="words+transfer")


@pytest.fixture(scope="module")
def tagger(home: Path) -> backattn.Tagger:
    return backattn.load("es", best=True, device="cpu")


def refused(call: Any, *arguments: Any, **named: Any) -> str:
    """The one line of a refusal."""
    with pytest.raises(backattn.BackattnError) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run_examples(test: doctest.DocTest) -> None:
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    result = runner.run(test, out=told.append)
    assert result.attempted > 1
    assert result.failed == 0, "".join(told)


@pytest.mark.parametrize(
    "name", ["backattn", "backattn.api", "backattn.features.new_text", "backattn.integrations.flair"]
)
def test_examples_of_the_docstrings_hold(home: Path, name: str) -> None:
    module = importlib.import_module(name)
    tests = [one for one in doctest.DocTestFinder().find(module) if one.examples]
    assert tests
    for test in tests:
        run_examples(test)


@pytest.mark.parametrize("section", re.findall("^## (.*)$", DOCS, re.M))
def test_examples_of_the_docs_page_hold(home: Path, section: str) -> None:
    if section == "spaCy":
        pytest.importorskip("spacy")
        importlib.import_module("backattn.integrations.spacy")  # as its entry point does
    body = DOCS.split(f"## {section}\n")[1].split("\n## ")[0]
    code = "\n".join(re.findall(r"```pycon\n(.*?)```", body, re.S))
    run_examples(doctest.DocTestParser().get_doctest(code, {"backattn": backattn}, section, None, 0))


def test_it_says_what_the_command_says(tagger: backattn.Tagger) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    told = CliRunner().invoke(cli.main, ["tag", str(tagger.run), "--input", "jsonl", "--json"], input=lines)
    expected = [json.loads(line)["entities"] for line in told.stdout.splitlines()]
    found = tagger.tag(TEXTS)
    assert [[e._asdict() for e in entities] for entities in found] == expected
    assert list(map(len, found)) == [4, 0, 0, 2]
    assert [tagger.tag(text) for text in TEXTS] == found


def test_places_slice_texts_and_tokens(tagger: backattn.Tagger) -> None:
    for text, entities in zip(TEXTS, tagger.tag(TEXTS), strict=True):
        assert all(text[e.start : e.end] == e.text for e in entities)
    tokens = sentences()
    for own, entities in zip(tokens, tagger.tag(tokens), strict=True):
        assert [(e.type, own[e.start : e.end]) for e in entities] == [("PER", own[:2]), ("LOC", own[4:5])]
        assert all(e.text == " ".join(own[e.start : e.end]) and 0 < e.score <= 1 for e in entities)


def test_batches_keep_the_order(tagger: backattn.Tagger) -> None:
    """More than a batch, with empty sentences between."""
    tokens = [[], *sentences() * 18, ["Lugo"], []]
    found = tagger.tag(tokens)
    assert len(tokens) > 256
    alone = {tuple(own): tagger.tag([own])[0] for own in {tuple(own): own for own in tokens}.values()}
    for own, entities in zip(tokens, found, strict=True):
        assert [e[:4] for e in entities] == [e[:4] for e in alone[tuple(own)]]
    assert tagger.tag([]) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"found None of type NoneType, expected a str \(a text\), a list of str \(texts\), or"),
        (b"Ana", r"found b'Ana' of type bytes, expected a str"),
        pytest.param(iter(["Ana"]), r"of type list_iterator, expected a str", id="an iterator"),
        ({"Ana": 1}, r"of type dict, expected"),
        (["Ana", ["Ruiz"]], r"found str and other values in one list, expected .* tag them one by one"),
        ([3], r"found 3 of type int, expected a list of lists of str, .* \(sentence 1\)"),
        ([["Ana"], ["Ana", 3]], r"sentence 2: found 3 as a token, expected a list of lists of str"),
        ([["Ana", ""]], r"sentence 1: found '' as a token, expected some text"),
        ([["Ana\tRuiz"]], r"sentence 1: found a tab in the token"),
        ([["x" * 20_000]], r"sentence 1: found a token of 20,000 characters, expected at most 10,000"),
        ([["a"] * 10_001], r"sentence 1: found a sentence of more than 10,000 tokens"),
        ("Ana\0", r"the text: found a NUL character"),
        (["Ana", "\ud83d"], r"text 2: found half a character"),
        (["Ana", "x" * 20_000], r"text 2: found a token of 20,000 characters"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_neither_text_nor_tokens_is_refused(
    tagger: backattn.Tagger, value: Any, message: str
) -> None:
    assert re.search(message, refused(tagger.tag, value))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"run": 3}, r"load: found 3, expected the folder of a run, or a LANG with best=True"),
        ({"run": "es"}, r"es: is a LANG, expected a run; .* words\+transfer-all-seed1"),
        ({"run": "nowhere"}, r"nowhere: holds no run"),
        ({"run": "no\0where"}, r"holds no run"),
        ({"run": "nowhere", "best": True}, r"nowhere is not a LANG with runs below cache"),
        ({"run": "es", "best": True, "tokenizer": "own"}, r"tokenizer 'own', expected moses or spacy"),
        ({"run": "es", "best": True, "device": "gpu"}, r"did you mean cuda\?"),
        (
            {"run": "es", "best": True, "trust_sha256": "abc"},
            r"trust_sha256: found 'abc', expected a list of",
        ),
        ({"run": "es", "best": True, "trust_sha256": 3}, r"trust_sha256: found 3"),
        (
            {"run": "es", "best": True, "trust_sha256": [["a"]]},
            r"trust_sha256: found \['a'\], expected a list",
        ),
        ({"run": "es", "best": True, "trust": "no"}, r"trust: found 'no', expected True or False"),
        ({"run": "es", "best": True, "split": "no"}, r"split: found 'no', expected True or False"),
        ({"run": "es", "best": 1}, r"best: found 1, expected True or False"),
        ({"run": "es", "best": True, "device": 0}, r"device: found 0, expected cpu, cuda, cuda:N or auto"),
        ({"run": "a" * 5000}, r"a+…?.*holds no run"),
    ],
    ids=str,
)
def test_what_is_no_run_is_refused(home: Path, arguments: dict[str, Any], message: str) -> None:
    assert re.search(message, refused(backattn.load, arguments.pop("run"), **arguments))


def test_a_run_is_found_by_folder_path_and_name(tagger: backattn.Tagger) -> None:
    for given in (tagger.run, str(tagger.run), tagger.run.name, str(tagger.run.absolute())):
        assert backattn.load(given).types == tagger.types
    assert repr(tagger) == f"<backattn.Tagger '{tagger.run}'>"


class TestFeatures:
    def test_stored_ones_are_those_of_the_store(self, home: Path) -> None:
        store = StoreReader(transfer_store())
        for tokens, vectors in zip(sentences(), backattn.features("es", sentences()), strict=True):
            np.testing.assert_array_equal(vectors, store[sentence_key(tokens)]["vectors"])
            assert vectors.shape == (len(tokens), WIDTH)
        alone = backattn.features(str(transfer_store()), sentences()[:1])
        np.testing.assert_array_equal(alone[0], backattn.features("es", sentences()[:1])[0])
        alone[0][:] = 0  # an array of the caller's own

    def test_the_others_are_computed_as_stage_one_does(self, home: Path) -> None:
        stored = backattn.features("es", sentences())
        file = transfer_store()
        away = file.rename(file.with_suffix(".away"))
        try:
            computed = backattn.features("es", sentences())
        finally:
            away.rename(file)
        for one, other in zip(stored, computed, strict=True):
            assert one.dtype == other.dtype == np.float16
            np.testing.assert_allclose(one.astype(float), other.astype(float), atol=2e-3)
        mixed = backattn.features("es", [sentences()[0], ["Hola"], sentences()[0]])
        np.testing.assert_array_equal(mixed[0], stored[0])
        np.testing.assert_array_equal(mixed[2], stored[0])
        assert np.abs(mixed[1]).sum() > 0

    def test_a_store_alone_says_what_it_lacks(self, home: Path) -> None:
        told = refused(backattn.features, str(transfer_store()), [["Hola"], ["Adiós"]])
        assert "has no T of 'Hola' (2 such sentences); name the recipe" in told

    @pytest.mark.parametrize(
        ("source", "value", "message"),
        [
            ("es", "Ana", r"found 'Ana' of type str, expected a list of lists of str"),
            ("es", ["Ana"], r"found 'Ana' of type str, .* \(sentence 1\)"),
            ("es", [["Ana"], []], r"sentence 2: found no token, expected at least one"),
            (3, [["Ana"]], r"features: found 3, expected the name of a recipe"),
            ("xx", [["Ana"]], r"xx\.toml: no such recipe"),
            ("nowhere.h5", [["Ana"]], r"nowhere\.h5: no such store"),
        ],
    )
    def test_what_is_wrong_is_told(self, home: Path, source: Any, value: Any, message: str) -> None:
        assert re.search(message, refused(backattn.features, source, value))

    def test_another_store_and_a_damaged_one_are_refused(self, home: Path, tmp_path: Path) -> None:
        (translations,) = Path("cache/es/translation").glob("*.h5")
        assert "is a store of kind translation, expected one of T" in refused(
            backattn.features, str(translations), sentences()
        )
        damaged = tmp_path / "damaged.h5"
        damaged.write_bytes(transfer_store().read_bytes()[:-9])
        assert re.search(r"damaged\.h5: .*; delete it", refused(backattn.features, str(damaged), sentences()))

    def test_a_pickle_needs_a_word_of_trust(self, home: Path, tmp_path: Path) -> None:
        """Of a recipe elsewhere; its digest there does not count."""
        save_pickle(random_tagger(tmp_path), home / "cache/english/tagger.pt")
        text = (home / "pipelines/es.toml").read_text().replace("tagger.safetensors", "tagger.pt")
        recipe = tmp_path / "foreign.toml"
        recipe.write_text(text)
        told = refused(backattn.features, str(recipe), [["Hola"]])
        assert "a flair file is a pickle and can run code" in told
        digest = re.search(r"--trust-sha256 ([0-9a-f]{64})", told)
        assert digest
        [vectors] = backattn.features(str(recipe), [["Hola"]], trust_sha256=[digest[1].upper()])
        assert vectors.shape == (1, WIDTH)
