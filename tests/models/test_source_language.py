"""A recipe that was copied for another language is told what it has kept of the first one."""

from pathlib import Path

import pytest

from backattn.models.source_language import _language_of, source_disagreements
from backattn.recipe import Recipe, load_recipe
from fakes import make_recipe

PIPELINES = Path(__file__).parents[2] / "pipelines"


def trained(source: str, *paths: str, parent: str = "", **tables: object) -> Recipe:
    files = [{"path": path} for path in paths]
    training = {"parallel": files, "valid": files[0], "test": files[0], "parent": parent}
    translator = {"kind": "fairseq", "checkpoint": "x/translator", "source": source, "training": training}
    return make_recipe(translator=translator, **tables)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("x.es-en.es", "es"),
        ("parallel/tatoeba/tatoeba.de-en.tsv", "de"),
        ("alignment/xlwa-en-es/test.tsv", "es"),
        ("wmt/newstest2019-zh_en.tsv", "zh"),
        ("Helsinki-NLP/opus-mt-es-en", "es"),
        ("transformer.wmt19.de-en", "de"),
        ("data/train.tsv", ""),
        ("ted-en/wmt-en.tsv", ""),
        ("open-ended.txt", ""),
        ("multi.de-en.fr-en.tsv", ""),
        ("multi.de-en.fr-en.fr", "fr"),
        ("deu.train", ""),
    ],
)
def test_the_language_in_a_name(name: str, language: str) -> None:
    assert _language_of(name) == language


@pytest.mark.parametrize("path", sorted(PIPELINES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_of_this_project_agree(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PIPELINES.parent)
    if path.stem != "english":  # has no corpus
        assert source_disagreements(load_recipe(path.stem)) == []


def test_both_keys_are_named_once_for_a_table() -> None:
    recipe = trained(
        "fr", "a.es-en.tsv", "b.es-en.tsv", "c.fr-en.tsv",
        alignment={"path": "alignment/en-es/test.tsv"},
        embeddings={"charlm": {"checkpoint": "x", "training": {"files": [{"path": "a.es-en.tsv"}]}}},
    )  # fmt: skip
    found = source_disagreements(recipe)
    assert [line.partition("; ")[0] for line in found] == [
        f'recipe toy: translator.source is "fr", but {named} is of "es"'
        for named in (
            "translator.training.parallel[0].path (a.es-en.tsv)",
            "alignment.path (alignment/en-es/test.tsv)",
            "embeddings.charlm.training.files[0].path (a.es-en.tsv)",
        )
    ]
    assert all("\n" not in line for line in found)


@pytest.mark.parametrize(("source", "path"), [("zh_CN", "a.zh-en"), ("nb", "a.no-en"), ("es", "a.es-en")])
def test_one_language_by_two_codes(source: str, path: str) -> None:
    assert source_disagreements(trained(source, path)) == []


def test_models_of_another_language() -> None:
    hub = {"kind": "transformers", "hub": "Helsinki-NLP/opus-mt-es-en", "source": "fr"}
    (line,) = source_disagreements(make_recipe(translator=hub))
    assert 'but translator.hub (Helsinki-NLP/opus-mt-es-en) is of "es"' in line


def test_a_translator_and_a_parent_say_their_language_themselves(cache: Path) -> None:
    for name in ("x/translator/dict.en.txt", "x/translator/dict.es.txt", "es/translator/dict.es.txt"):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).touch()
    recipe = make_recipe(translator={"kind": "fairseq", "checkpoint": "x/translator", "source": "fr"})
    (line,) = source_disagreements(recipe)
    assert 'but translator.checkpoint (x/translator) is of "es"' in line
    (cache / "x/translator/dict.es.txt").rename(cache / "x/translator/dict.fr.txt")
    assert source_disagreements(recipe) == []
    # A parent of another language is what a parent is for, unless the pairs are of that language, too.
    assert source_disagreements(trained("fr", "a.fr-en.tsv", parent="es/translator")) == []
    files, parent = source_disagreements(trained("fr", "a.es-en.tsv", parent="es/translator"))
    assert "translator.training.parallel[0].path" in files
    assert 'translator.training.parent (es/translator) is of "es"' in parent
