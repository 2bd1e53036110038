"""Rows that a preset describes are named by it, and by what differs from it."""

from pathlib import Path
from typing import Any

import pytest
from run_folders import make_run

from backattn.recipe import as_json, load_recipe
from backattn.recipe.presets import preset_overrides
from backattn.report.tables import make_report
from users_folder import make_home

TABLES = """
[transfer]
normalise = "source"
[tagger]
characters = "cnn"
epochs = 3
"""
PAPER = preset_overrides("paper")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch, TABLES)


def runs_of(home: Path, store: str, *overrides: str, epochs: int = 3, **tagger: Any) -> None:
    """The runs of `train --set ...`, words and words+transfer."""
    recipe = load_recipe("toy", [*overrides, f"tagger.epochs={epochs}"])
    for inputs in ("words", "words+transfer"):
        request = as_json(recipe.tagger)
        if inputs == "words":
            request |= {"standardise": True, "fusion": "output"}
        try:
            make_run(
                home / "cache" / "toy" / "runs", inputs, lang="toy", tagger=request, epochs=epochs,
                store=store, recipe=as_json(recipe),
            )  # fmt: skip
        except FileExistsError:  # the same base
            assert inputs == "words"


def rows(home: Path) -> list[tuple[str, tuple[str, ...]]]:
    (table,) = make_report(["toy"], home / "cache").langs[0].tables
    assert all(row.difference for row in table.rows if row.inputs != "words")
    return [
        (row.model, tuple(part for part in row.setting if not part.startswith("store=")))
        for row in table.rows
    ]


def test_a_preset_is_a_row_of_its_own_and_each_deviation_from_it(home: Path) -> None:
    base, ban = "BiLSTM+CRF", "BiLSTM+CRF+BAN"
    runs_of(home, "1-aaaa")
    runs_of(home, "1-bbbb", *PAPER)
    preset = ("preset=paper",)
    assert sorted(rows(home)) == [(base, ()), (base, preset), (ban, ()), (ban, preset)]
    runs_of(home, "1-bbbb", *PAPER, "tagger.clip_norm=5")
    runs_of(home, "1-bbbb", *PAPER, "tagger.standardise=true")  # its base is the preset's
    runs_of(home, "1-cccc", *PAPER, "transfer.normalise=source")
    runs_of(home, "1-bbbb", *PAPER, "tagger.characters=cnn")
    found = rows(home)
    assert len(found) == len(set(found))
    assert {setting for model, setting in found if model == ban} == {
        (), ("preset=paper",),
        *(("preset=paper", one) for one in ("tagger.clip_norm=5.0", "tagger.standardise=True",
                                            "transfer.normalise=source", "tagger.characters=cnn")),
    }  # fmt: skip
    assert {setting for model, setting in found if model == base} == {
        (), ("preset=paper",), ("tagger.characters=none",), ("tagger.clip_norm=0.0",)
    }  # fmt: skip


def test_what_is_nearer_to_the_recipe_is_named_by_that(home: Path) -> None:
    runs_of(home, "1-aaaa")
    runs_of(home, "1-aaaa", "tagger.clip_norm=0")
    runs_of(home, "1-aaaa", "tagger.characters=none")
    assert {setting for _, setting in rows(home)} == {
        (), ("tagger.clip_norm=0.0",), ("tagger.characters=none",)
    }  # fmt: skip


def test_runs_of_a_preset_alone(home: Path) -> None:
    """The name does not depend on rows beside it; nor do other epochs hide it."""
    runs_of(home, "1-bbbb", *PAPER, epochs=5)
    assert {setting for _, setting in rows(home)} == {("preset=paper",)}


def test_can_is_a_row_of_its_own_and_another_fusion_is_not_can(home: Path) -> None:
    runs_of(home, "1-aaaa")
    runs_of(home, "1-dddd", *preset_overrides("can"))
    runs_of(home, "1-dddd", "transfer.states=embeddings")
    assert sorted(rows(home)) == [
        ("BiLSTM+CRF", ()),
        ("BiLSTM+CRF+BAN", ()),
        ("BiLSTM+CRF+BAN", ("transfer.states=embeddings",)),
        ("BiLSTM+CRF+BAN(input)", ("preset=can",)),
    ]
