"""Runs side by side: the same numbers, one's failure is nobody else's, and nothing stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from backattn.common.errors import BackattnError, RecipeError, StaleError
from backattn.common.jobs import run_parallel
from backattn.embeddings.fasttext import FastText
from backattn.experiments import runs as experiments
from backattn.experiments.grid import Cell, RunGrid
from backattn.experiments.runs import fitting_jobs, train_grid
from backattn.features.build import build_embeddings
from backattn.features.plan import make_plan
from backattn.recipe import Recipe, as_json
from backattn.tagger.run import RunFolder
from fakes import make_corpus
from job_tasks import Square
from test_architecture import run_without
from tiny_grid import CORPUS, GRID, WORDS, left_behind, put_recipe
from users_folder import ORDINARY, make_home, run

pytestmark = pytest.mark.slow


class TestSideBySide:
    @pytest.mark.parametrize("jobs", [1, 9])
    def test_every_task_is_done_once(self, tmp_path: Path, jobs: int) -> None:
        ticks: list[None] = []
        outcomes = run_parallel(Square(tmp_path), [0, 1, 2], jobs, lambda: ticks.append(None))
        assert outcomes == [None] * 3
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "0", "1": "1", "2": "4"}
        assert ticks

    def test_a_failure_is_told_and_touches_no_other(self, tmp_path: Path) -> None:
        known, unknown, killed, *others = run_parallel(Square(tmp_path), [3, 4, 5, 1, 2], 2, lambda: None)
        assert isinstance(known, StaleError)
        assert (str(known), known.exit_status) == ("three is stale", 1)
        assert isinstance(unknown, RuntimeError)
        assert str(unknown) == "ZeroDivisionError: of no kind that is known"
        assert "in __call__" in unknown.__notes__[0]
        assert isinstance(killed, BackattnError)
        assert str(killed).startswith("5: its process was killed by SIGKILL; is there enough memory")
        assert others == [None, None]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]

    def test_folder_and_environment_are_those_of_now(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Though the server is older than both."""
        run_parallel(Square(tmp_path), [0], 1, lambda: None)
        for number in ("7", "8"):
            monkeypatch.setenv("BACKATTN_CACHE", number)
            monkeypatch.chdir(tmp_path)
            assert run_parallel(Square(Path()), [7], 1, lambda: None) == [None]
            assert (tmp_path / "7").read_text() == f"{tmp_path} {number}"

    def test_an_interruption_ends_all(self, tmp_path: Path) -> None:
        def interrupt() -> None:
            if (tmp_path / "1").exists():
                raise KeyboardInterrupt

        before = children()
        with pytest.raises(KeyboardInterrupt):
            run_parallel(Square(tmp_path), [6, 1, 6, 2], 2, interrupt)
        assert children() == before
        assert not (tmp_path / "2").exists()


SERVED = """
import os
import sys
import threading
import time
from pathlib import Path
from backattn.common.jobs import run_parallel, start_server
sys.path.insert(0, sys.argv[1])
from job_tasks import Threads
start_server(("backattn.experiments.runs", "backattn.tagger.training"))
print(run_parallel(Threads(sys.argv[2]), [1, 2, 3], 3, lambda: None), "torch" in sys.modules)
"""


def test_the_server_has_imported_torch_and_started_nothing(tmp_path: Path) -> None:
    """OpenMP's threads and a CUDA context would be lost in its children."""
    done = subprocess.run(
        [sys.executable, "-c", SERVED, str(Path(__file__).parents[1]), str(tmp_path)],
        capture_output=True, text=True, check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[None, None, None] False\n", "")
    told = [path.read_text().split() for path in tmp_path.iterdir()]
    assert len(told) == 3
    assert {tuple(words[1:]) for words in told} == {("1", "True", "False")}
    assert len({words[0] for words in told}) == 1  # one server


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    return put_recipe(tmp_path, monkeypatch)


def test_a_runs_recipe_says_where_the_models_lie_now(recipe: Recipe, tmp_path: Path) -> None:
    grid = RunGrid(("words+transfer",), ("all",), (1,))
    (run,) = train_grid(recipe, CORPUS, grid, device="cpu").whole()
    (tmp_path / "moved.pt").write_bytes(b"model")
    moved = structs.replace(recipe, english=structs.replace(recipe.english, checkpoint="moved.pt"))
    (again,) = train_grid(moved, CORPUS, grid, device="cpu").whole()
    assert again.folder == run.folder
    assert json.loads((run.folder / "recipe.json").read_text("utf-8"))["english"]["checkpoint"] == "moved.pt"


def test_side_by_side_equals_one_after_the_other(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train_grid(recipe, CORPUS, GRID, device="cpu", jobs=2)
    assert [(run.inputs, run.seed) for run in trained.whole()] == [
        ("words", 1), ("words+transfer", 1), ("words", 2), ("words+transfer", 2),
    ]  # fmt: skip
    together = left_behind(tmp_path)
    (tmp_path / "toy/runs").rename(tmp_path / "together")
    alone = train_grid(recipe, CORPUS, GRID, device="cpu", jobs=1).whole()
    assert left_behind(tmp_path) == together
    assert len([name for name in together if name.endswith("weights.safetensors")]) == 4
    # What is finished is only read: no process is started for it.
    monkeypatch.setattr(experiments, "run_parallel", None)
    assert train_grid(recipe, CORPUS, GRID, device="cpu", jobs=2).whole() == alone


def with_vectors(recipe: Recipe, **tagger: object) -> Recipe:
    """The same with fastText vectors at the BiLSTM's input."""
    return structs.replace(recipe, tagger=structs.replace(recipe.tagger, embeddings=("fasttext",), **tagger))


def embed(recipe: Recipe, tmp_path: Path) -> Path:
    """Make the store of the vectors; gives its path."""
    stage = make_plan(recipe, CORPUS).embeddings["fasttext"]
    return build_embeddings(stage, lambda: FastText(tmp_path / "toy.vec"), "cpu").path


def test_frozen_features_come_from_their_store(recipe: Recipe, tmp_path: Path) -> None:
    frozen = with_vectors(recipe, word_dimensions=0)
    with pytest.raises(
        StaleError, match=r"fasttext.*: 6 of 6 sentences have no fasttext vectors; run `backattn"
    ):
        train_grid(frozen, CORPUS, GRID, device="cpu")
    embed(frozen, tmp_path)
    runs = train_grid(frozen, CORPUS, GRID, device="cpu", jobs=2).whole()
    identity = make_plan(frozen, CORPUS).embeddings["fasttext"].recipe_id
    assert [run.request["embeddings"] for run in runs] == [{"fasttext": identity}] * 4
    without = train_grid(recipe, CORPUS, GRID, device="cpu").whole()
    assert {run.folder for run in runs}.isdisjoint({run.folder for run in without})


def test_a_damaged_store_is_found_before_it_is_learnt_from(recipe: Recipe, tmp_path: Path) -> None:
    """Its small arrays are verified when it is opened, those above a megabyte when a run is trained."""
    width = 30_000
    (tmp_path / "toy.vec").write_text(f"1 {width}\nsingt{' 3' * width}\n")
    frozen = with_vectors(recipe)
    path = embed(frozen, tmp_path)
    data, three, four = path.read_bytes(), *(np.float16(x).tobytes() * 99 for x in (3, 4))
    path.write_bytes(data.replace(three, four, 1))
    errors = train_grid(frozen, CORPUS, RunGrid(("words",), ("all",), (1, 2)), device="cpu").errors
    assert [str(error) for error in errors] == [
        f"{path}: vectors differs from its digest; delete it, then `backattn features` makes it anew"
    ] * 2
    assert not list(tmp_path.glob("toy/runs/*/*.safetensors"))


def test_words_alone_are_one_run_whatever_the_fusion(recipe: Recipe) -> None:
    fused = structs.replace(recipe, tagger=structs.replace(recipe.tagger, fusion="gate"))
    plain = train_grid(recipe, CORPUS, GRID, device="cpu").whole()
    gated = train_grid(fused, CORPUS, GRID, device="cpu").whole()
    assert [a.folder == b.folder for a, b in zip(plain, gated, strict=True)] == [True, False] * 2
    with pytest.raises(RecipeError, match=r"tagger\.fusion: gate for the inputs transfer"):
        train_grid(fused, CORPUS, RunGrid(("words", "transfer"), ("all",), (9,)), device="cpu")


FINISHED = """
import json, sys
from pathlib import Path
from backattn.experiments.runs import train_grid
from backattn.experiments.grid import RunGrid
from backattn.recipe import from_json
sys.path.insert(0, sys.argv[1])
from fakes import make_corpus
recipe, words, *grid = json.loads(sys.argv[2])
trained = train_grid(from_json(recipe, "toy"), make_corpus(words), RunGrid(*grid), device="auto", jobs=2)
print(*(run.folder for run in trained.whole()), sep="\\n")
"""


def test_a_finished_grid_is_answered_without_torch(recipe: Recipe, tmp_path: Path) -> None:
    frozen = with_vectors(recipe)
    embed(frozen, tmp_path)
    runs = train_grid(frozen, CORPUS, GRID, device="cpu").whole()
    asked = json.dumps([as_json(frozen), WORDS, GRID.inputs, GRID.sentences, GRID.seeds])
    here = str(Path(__file__).parents[1])
    told = run_without({"torch"}, f"import sys; sys.argv = ['', {here!r}, {asked!r}]\n{FINISHED}")
    assert told.split() == [str(run.folder) for run in runs]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_run_does_not_lose_the_others(recipe: Recipe, tmp_path: Path, jobs: int) -> None:
    first = train_grid(recipe, CORPUS, RunGrid(("words",), ("all",), (1,)), device="cpu").runs[0]
    lost = RunFolder(first.folder)
    lost.epochs.write_text("{}\n")
    trained = train_grid(recipe, CORPUS, GRID, device="cpu", jobs=jobs)
    assert [(run.inputs, run.seed) for run in trained.runs] == [
        ("words+transfer", 1), ("words", 2), ("words+transfer", 2),
    ]  # fmt: skip
    (error,) = trained.errors
    assert str(error).startswith(f"{first.folder}: damaged run (")
    with pytest.raises(type(error)):
        trained.whole()


def test_a_stale_store_is_told_before_anything_starts(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(StaleError, match="1 of 7 sentences have no transfer vectors"):
        train_grid(recipe, make_corpus([*WORDS, "neu"]), GRID, device="cpu", jobs=2)
    assert not (tmp_path / "toy/runs").exists()


@pytest.mark.parametrize(
    ("runs", "cores", "jobs"), [(10, 2, 2), (5, 2, 3), (5, 1, 1), (1, 8, 1), (5, 4, 5), (9, 4, 5), (7, 16, 7)]
)
def test_the_last_runs_leave_no_core_idle(runs: int, cores: int, jobs: int) -> None:
    assert fitting_jobs(runs, cores) == jobs


def test_a_grid_has_each_run_once() -> None:
    grid = RunGrid(inputs=("words",), sentences=("all",), seeds=(2, 1, 2))
    assert grid.cells() == [Cell("all", 2, "words"), Cell("all", 1, "words")]
    assert str(grid.cells()[0]) == "words, all sentences, seed 2"


# A shell starts its background jobs with Ctrl-C ignored, and so may whoever runs these tests.
COMMAND = """
import signal
import sys
from backattn.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main(sys.argv[1:])
"""
TAGGER = """
[tagger]
hidden = 4
epochs = 100000
"""
ENDLESS = ("train", "toy", "--inputs", "words", "--seeds", "1,2,3", "--jobs", "2")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: a recipe that trains for hours, and its corpus."""
    return make_home(tmp_path, monkeypatch, TAGGER, corpus=ORDINARY)


@pytest.fixture
def endless(home: Path) -> "subprocess.Popen[str]":
    """A grid that would take hours, at work in a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *ENDLESS], start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: len(list(home.glob("cache/toy/runs/*/epochs.jsonl"))) == 2)
    return process


def test_one_failing_run_is_one_line_and_its_status(home: Path) -> None:
    short = [*ENDLESS, "--set", "tagger.epochs=1"]
    status, out, err = run(*short, "--json")
    folders = [Path(row["folder"]) for row in json.loads(out)]
    assert (status, len(folders)) == (0, 3)
    assert sorted(line.split(":")[0] for line in err.splitlines()) == sorted(f.name for f in folders)
    for folder in folders[:2]:
        RunFolder(folder).manifest.unlink()
        RunFolder(folder).checkpoint.write_bytes(b"damaged")
    status, out, err = run(*short, "--json")
    assert status == 2
    assert [row["folder"] for row in json.loads(out)] == [str(folders[2])]
    lines = err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("backattn: ") and "damaged (" in line for line in lines)


def test_ctrl_c_stops_all(endless: "subprocess.Popen[str]") -> None:
    os.killpg(endless.pid, signal.SIGINT)  # as a terminal does
    out, err = endless.communicate(timeout=240)
    assert (endless.returncode, out) == (130, "")
    assert err == "backattn: stopped; run the same command again: it goes on from what is finished\n"
    wait_until(lambda: not session(endless.pid))


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_parent_leaves_no_orphans(endless: "subprocess.Popen[str]", deadly: signal.Signals) -> None:
    assert len(session(endless.pid)) >= 3
    endless.send_signal(deadly)
    out, err = endless.communicate(timeout=240)  # until nobody holds its pipes any more
    assert (endless.returncode, out, err) == (-deadly, "", "")
    wait_until(lambda: not session(endless.pid))


def children() -> set[int]:
    """The processes that this one has started and that still work."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split() if not helper(pid)}


def helper(pid: str) -> bool:
    """Python's own: one sees to what processes leave behind, one starts them. Both end with this one."""
    command = Path(f"/proc/{pid}/cmdline").read_text()
    return "resource_tracker" in command or "multiprocessing.forkserver" in command


def session(leader: int) -> list[int]:
    """The living processes of a session."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pid=,sess=,stat="], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [int(pid) for pid, sess, stat in rows if int(sess) == leader and not stat.startswith("Z")]


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited for a minute")


# What Python's own helpers import before they have looked at any path that they are told.
EARLY_MODULES = ("multiprocessing/__init__", "random", "signal", "threading", "selectors", "struct", "json")


def test_no_module_of_the_current_folder_runs(tmp_path: Path) -> None:
    """It may be a repository that somebody sent, and `python -c` looks there first, for all modules."""
    for name in EARLY_MODULES:
        path = tmp_path / "here" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n", encoding="utf-8")
    script = tmp_path / "script.py"
    script.write_text(
        "from backattn.common.jobs import run_parallel, start_server\n"
        "from job_tasks import Square\n"
        "from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "    start_server(['json'])\n"
        f"    print(run_parallel(Square(Path({str(tmp_path)!r})), [1], 1, lambda: None))\n",
        encoding="utf-8",
    )
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]
    answer = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path / "here",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
    assert (answer.returncode, answer.stdout) == (0, "[None]\n"), answer.stderr
