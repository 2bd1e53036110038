"""The list of finished runs, and the choice of one by its LANG."""

import json
from pathlib import Path

import pytest
from run_folders import make_run

from backattn.common.errors import MissingError, ModelError
from backattn.report.run_list import chosen_run
from backattn.report.runs import RunRecord, read_record
from users_folder import make_home, run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch)


def with_dev(folder: Path, f1: tuple[int, int, int]) -> Path:
    """Give a run another score on dev."""
    value = json.loads((folder / "run.json").read_text())
    tp, fp, fn = f1
    value["dev"]["sentences"] = [list(f1)]
    value["dev"]["overall"] |= {"tp": tp, "fp": fp, "fn": fn}
    value["dev"]["groups"], value["dev"]["group_sentences"] = {}, {}
    (folder / "run.json").write_text(json.dumps(value))
    return folder


@pytest.fixture
def runs(home: Path) -> dict[str, Path]:
    """Three finished ones of toy; one of es; one damaged, one in training."""
    folder = home / "cache/toy/runs"
    made = {
        "good": with_dev(make_run(folder, "words+transfer", 2, lang="toy"), (8, 1, 1)),
        "bad": with_dev(make_run(folder, "words", 1, lang="toy"), (1, 4, 4)),
        "fair": with_dev(make_run(folder, "words", 2, lang="toy"), (5, 5, 5)),
        "other": with_dev(make_run(home / "cache/es/runs", "words", 3), (2, 0, 2)),
    }
    for name in ("damaged", "started"):
        (folder / name).mkdir()
    (folder / "damaged/run.json").write_text("{")
    (folder / "started/epochs.jsonl").write_text("{}\n{}\n")
    return made


def test_runs_lists_all_with_their_scores(runs: dict[str, Path]) -> None:
    status, out, err = run("runs")
    assert (status, err) == (0, "")
    head, *rows = out.splitlines()
    assert head.split() == ["LANG", "dev", "F1", "test", "F1", "model", "inputs", "sentences", "seed", "run"]
    found = {row.split()[-1]: row.split() for row in rows if row.split()[0] in ("toy", "es")}
    for name, dev, inputs in (
        ("good", "88.89", "words+transfer"), ("fair", "50.00", "words"), ("bad", "20.00", "words"),
        ("other", "66.67", "words"),
    ):  # fmt: skip
        record = read_record(runs[name])
        model = "BiLSTM+CRF+BAN" if name == "good" else "BiLSTM+CRF"
        lang = "es" if name == "other" else "toy"
        assert found[str(Path("cache") / lang / "runs" / runs[name].name)] == [
            lang, dev, f"{100 * record.test.overall.f1:.2f}", model, inputs, "500", str(record.seed),
            f"cache/{lang}/runs/{runs[name].name}",
        ]  # fmt: skip
    order = [row.split()[1] for row in rows[:4]]
    assert order == ["66.67", "88.89", "50.00", "20.00"]  # es, then toy, the best first
    assert rows[4] == "toy: not finished, `backattn train` goes on: started (2 epochs)"
    assert rows[5].startswith("toy: not counted: cache/toy/runs/damaged/run.json: damaged (")
    assert len(rows) == 6


def test_runs_of_one_lang_as_json(runs: dict[str, Path]) -> None:
    status, out, _ = run("runs", "pipelines/toy.toml", "--json")
    assert status == 0
    (lang, found), = json.loads(out).items()  # fmt: skip
    assert lang == "toy"
    assert [Path(row["folder"]).name for row in found["finished"]] == [
        runs[name].name for name in ("good", "fair", "bad")
    ]
    assert found["finished"][1]["dev_f1"] == 0.5
    assert found["unfinished"] == [{"name": "started", "epochs": 2}]
    assert [row["name"] for row in found["damaged"]] == ["damaged"]


def test_damaged_runs_alone_are_listed_too(home: Path) -> None:
    (home / "cache/toy/runs/damaged").mkdir(parents=True)
    (home / "cache/toy/runs/damaged/run.json").mkdir()
    status, out, _ = run("runs", "toy")
    assert status == 0
    assert out.startswith("toy: not counted: cache/toy/runs/damaged")
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs"], "backattn: cache: no finished run; train some with `backattn train LANG`\n"),
        (
            ["runs", "toy"],
            "backattn: cache/toy/runs: no finished run; train some with `backattn train toy`\n",
        ),
        (["runs", "../toy"], "backattn: LANG '../toy': expected the name of a recipe ("),
        (
            ["tag", "toy", "--best"],
            "backattn: --best: toy is not a LANG with runs below cache; name one that `backattn runs` lists",
        ),
        (["tag", "toy"], "backattn: toy: holds no run; `backattn train LANG` makes it\n"),
    ],
)
def test_without_runs_the_next_command_is_named(home: Path, arguments: list[str], message: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_tag_of_a_lang_names_its_runs(runs: dict[str, Path], home: Path) -> None:
    status, out, err = run("tag", "toy")
    assert (status, out) == (2, "")
    assert err == (
        "backattn: toy: is a LANG, expected a run; take the best on dev with --best, or name one of (dev "
        f"F1): {runs['good'].name} (88.89), {runs['fair'].name} (50.00), {runs['bad'].name} (20.00)\n"
    )
    for seed in range(10, 16):
        make_run(home / "cache/toy/runs", "words", seed, lang="toy")
    assert " and 4 more (`backattn runs toy`)\n" in run("tag", "toy")[2]


def test_the_best_is_taken_by_dev_f1(runs: dict[str, Path], home: Path) -> None:
    cache = Path("cache")
    for lang in ("toy", "pipelines/toy.toml"):
        found = chosen_run(Path(lang), cache, best=True)
        assert isinstance(found, RunRecord)
        assert found.folder.name == runs["good"].name
    # A run's own folder is that run, whatever else has its name.
    assert chosen_run(runs["bad"], cache, best=False) == runs["bad"]
    with pytest.raises(MissingError, match=r"--best: .* is not a LANG with runs below cache"):
        chosen_run(runs["bad"], cache, best=True)
    for name in ("good", "bad", "fair"):
        (runs[name] / "run.json").write_text("[]")
    with pytest.raises(ModelError, match="damaged"):
        chosen_run(Path("toy"), cache, best=True)


def test_of_equal_runs_the_first_by_name_is_the_best(runs: dict[str, Path]) -> None:
    with_dev(runs["bad"], (8, 1, 1))
    found = chosen_run(Path("toy"), Path("cache"), best=True)
    assert isinstance(found, RunRecord)
    assert found.folder.name == min(runs["bad"].name, runs["good"].name)
