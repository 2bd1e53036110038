"""`backattn keys`: every key of a recipe, as the recipes have them and the defaults are."""

import inspect
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec import structs

from backattn import recipe as tables
from backattn.cli import main
from backattn.common.errors import RecipeError
from backattn.recipe import Recipe, load_recipe
from backattn.recipe.constraints import Table
from backattn.recipe.keys import recipe_keys

PIPELINES = Path(__file__).parents[2] / "pipelines"
asked = cache(recipe_keys)  # the recipes share nearly all their keys
LANGS = [path.stem for path in sorted(PIPELINES.glob("*.toml")) if path.stem != "english"]


def entries(part: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of what a recipe was read as; of a list of tables, its entries'."""
    if kind := part.__struct_config__.tag:
        yield f"{prefix}kind", kind
    for field in structs.fields(part):
        value, name = getattr(part, field.name), prefix + field.name
        if isinstance(value, Table):
            yield from entries(value, f"{name}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], Table):
            for item in value:
                yield from entries(item, f"{name}[].")
        else:
            yield name, value


@pytest.mark.parametrize("lang", LANGS)
def test_every_key_of_the_committed_recipes_is_explained(lang: str) -> None:
    recipe = load_recipe(str(PIPELINES / f"{lang}.toml"))
    for name, value in entries(recipe):
        if name == "name" or value is None or value == ():
            continue
        (key, *below) = asked(name.replace("[]", ""))
        assert (key.name, below) == (name, [])


def test_a_name_may_be_given_as_it_is_printed() -> None:
    for key in recipe_keys():
        assert asked(key.name)[0].name == key.name


def test_every_table_is_explained_wherever_it_stands_first_or_not() -> None:
    for key in recipe_keys():
        if key.values.partition(";")[0] in ("table", "list of tables"):
            assert re.sub(r"Its keys are those of .*", "", key.meaning).strip()


def test_defaults_are_those_of_a_recipe_that_says_nothing() -> None:
    bare = Recipe(
        name="x",
        corpus=tables.CorpusRecipe(train="-", dev="-", test="-", source="-"),
        translator=tables.FairseqRecipe(checkpoint="-", source="de"),
    )
    told = {key.name: key.values.partition("; ")[2] for key in recipe_keys()}
    given = {
        "translator.kind",
        "translator.checkpoint",
        "corpus.train",
        "corpus.dev",
        "corpus.test",
        "corpus.source",
        "translator.source",
    }
    for name, value in entries(bare):
        if value is not None and name not in ("name", "translator.checkpoint"):
            default = "required" if name in given else f"default {json.dumps(value)}"
            assert told[name].partition("; kind ")[0] == default


def test_docstrings_explain_keys_that_there_are() -> None:
    for cls in vars(tables).values():
        if inspect.isclass(cls) and issubclass(cls, Table):
            told = re.findall(r":param ([\w, ]+):", inspect.getdoc(cls) or "")
            names = {name for names in told for name in names.split(", ")}
            assert names <= {field.name for field in structs.fields(cls)}, cls


def test_like_tables_stand_once_and_whole_where_they_are_asked_for() -> None:
    names = [key.name for key in recipe_keys()]
    assert len(names) == len(set(names))
    assert "translator.training.valid.path" not in names
    asked = {key.name: key.meaning for key in recipe_keys("translator.training.valid")}
    assert asked["translator.training.valid.path"].startswith("a TSV file")
    (valid,) = (key for key in recipe_keys() if key.name == "translator.training.valid")
    assert valid.meaning.endswith("Its keys are those of translator.training.parallel[].")


def test_the_command() -> None:
    result = CliRunner().invoke(main, ["keys", "tagger.fusion"])
    assert result.output.startswith(
        'tagger.fusion  ("output" | "input" | "both" | "gate"; default "output")\n'
        "    where T is concatenated: `output`"
    )
    table = json.loads(CliRunner().invoke(main, ["keys", "transfer", "--json"]).output)
    assert table["transfer.eos"]["meaning"].startswith(
        "what to do with the end-of-sentence mark (EOS) in A: `drop`"
    )
    with pytest.raises(
        RecipeError, match=r"'tagg': no such key; did you mean tagger\? the tables of a recipe are corpus,"
    ):
        recipe_keys("tagg")
