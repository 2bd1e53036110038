"""The script of features.yml as its users run it, in clones of a small repository, a cache between them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from workflow_runner import FeaturesRun, clean_environment, read_workflow, run_features

from backattn.demo.sample import write_sample
from backattn.store.reader import StoreReader

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
FEATURES = ROOT / ".github/workflows/features.yml"
SENTENCES = {"train": 40, "dev": 15, "test": 15}
ALL, EDITED = sum(SENTENCES.values()), 3
# A user's edits of pipelines/sample.toml: corpora in data/, and a translator and a tagger of seconds.
EDITS = {
    'train = "${BACKATTN_CACHE}/sample/data/german.': 'train = "german.',
    'dev = "${BACKATTN_CACHE}/sample/data/german.': 'dev = "german.',
    'test = "${BACKATTN_CACHE}/sample/data/german.': 'test = "german.',
    "beam = 4": "beam = 1",
    "pieces = 2000": "pieces = 400",
    "learning_rates = [0.5, 0.5, 0.5, 0.5, 0.25, 0.1]": "learning_rates = [0.5]",
    "average = 3": "average = 1\ntest_limit = 20",
    'parallel.train.tsv", licence': 'parallel.train.tsv", limit = 300, licence',
    "hidden = 128": "hidden = 16",
    "epochs = 4": "epochs = 1",
    'use = "train" }': 'use = "train", limit = 300 }',
}
# Put in front of every Python process: which backattn it was, what it was asked, whether it loaded torch.
SPY = """
import atexit, json, os, sys
def tell():
    if backattn := sys.modules.get("backattn"):
        with open(os.environ["PROCESSES"], "a") as file:
            file.write(json.dumps([sys.argv[1:], backattn.__file__, "torch" in sys.modules]) + "\\n")
atexit.register(tell)
"""
TRAIN, CHECK = "Train the models that the recipe describes", "Check every byte of what is there"
COMPUTE, CHECK_AGAIN = "Compute what is missing", "Check again, every byte"


def git(folder: Path, *arguments: str) -> str:
    environment = clean_environment(folder)
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def commit(source: Path) -> str:
    git(source, "add", "--force", "data")  # this project keeps corpora out of git, its users keep them in
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--allow-empty", "--message", "an edit")
    return git(source, "rev-parse", "HEAD").strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree, uncommitted edits included, as the repository of somebody with a small corpus."""
    source = tmp_path_factory.mktemp("repository")
    if not (ROOT / ".git").exists() or not (Path(sys.prefix) / "bin/backattn").exists():
        pytest.skip("needs a git checkout and an installed backattn")
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in listed:
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    recipe = source / "pipelines/sample.toml"
    text = recipe.read_text("utf-8")
    for old, new in EDITS.items():
        assert text.count(old) == 1, f"pipelines/sample.toml has changed: {old}"
        text = text.replace(old, new)
    recipe.write_text(text, "utf-8")
    write_sample(source / "data")
    for path in (source / "data").iterdir():
        split = path.suffix[1:]
        if path.stem != "german":
            path.unlink()
        else:
            write_blocks(path, blocks(path)[: SENTENCES[split]])
    git(source, "init", "--quiet", "--initial-branch=main")
    commit(source)
    return source


def blocks(path: Path) -> list[str]:
    return path.read_text("utf-8").strip().split("\n\n")


def write_blocks(path: Path, sentences: list[str]) -> None:
    path.write_text("\n\n".join(sentences) + "\n", "utf-8")


def install(workspace: Path) -> None:
    """What `make install` leaves, taken from the running environment; there is nothing left to do."""
    venv = workspace / ".venv"
    venv.mkdir()
    for item in Path(sys.prefix).iterdir():
        if item.name != ".installed":
            (venv / item.name).symlink_to(item)
    (venv / ".installed").touch()
    question = ["make", "--question", "install"]
    subprocess.run(question, cwd=workspace, env=clean_environment(workspace), check=True)


class Process(NamedTuple):
    """A process that ran backattn, as SPY writes it down."""

    arguments: list[str]
    package: str
    torch: bool


def play(folder: Path, source: Path, saved: Path | None) -> tuple[FeaturesRun, list[Process]]:
    """One push to main: check out, install, restore the cache, run the script."""
    workspace, site = folder / "workspace", folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SPY)
    environment = clean_environment(
        folder,
        # The clone's sources stand before those that the environment was installed from.
        PYTHONPATH=f"{workspace / 'src'}{os.pathsep}{site}",
        PROCESSES=str(folder / "processes"),
        OMP_NUM_THREADS="1",
        PIP_NO_INDEX="1",
    )
    git(folder, "clone", "--quiet", str(source), str(workspace))
    install(workspace)
    if saved:
        shutil.copytree(saved, workspace / "cache", dirs_exist_ok=True)
    run = run_features(workspace, environment)
    lines = (folder / "processes").read_text("utf-8").splitlines()
    return run, [Process(*json.loads(line)) for line in lines]


def assert_right(run: FeaturesRun, processes: list[Process], computed: int) -> None:
    """All succeeded; so many sentences were computed in each stage; every byte was checked twice."""
    assert run.returncode == 0, run.parts
    found = re.findall(r"(\d+) sentences, (\d+) computed, 0 taken", run.parts[COMPUTE])
    assert found == ([(str(ALL), str(computed))] * 2 if computed else [])
    assert_fresh(run.parts[CHECK_AGAIN])
    assert [process.arguments for process in processes].count(["check", "--deep", "--", "sample"]) == 2
    assert {process.package for process in processes} == {str(run.workspace / "src/backattn/__init__.py")}
    assert run.outputs.keys() == {"save", "digest"}
    assert run.outputs["save"] == ("true" if computed else "false")
    steps = read_workflow(FEATURES)["jobs"]["features"]["steps"]
    (artifact,) = (step["with"] for step in steps if "upload-artifact" in step.get("uses", ""))
    artifacts = [path for line in artifact["path"].split() for path in run.workspace.glob(line)]
    assert sorted({path.parent.name for path in artifacts}) == ["transfer", "translation"]


def assert_fresh(output: str) -> None:
    """`backattn check` says so of both stores, and of no sentence too many."""
    lines = output.strip().splitlines()
    assert [line.split("; ")[0] for line in lines] == ["translation: fresh", "transfer: fresh"]
    assert all(f"; {ALL} sentences, 0 to compute; " in line for line in lines)


@pytest.fixture(scope="module")
def first(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FeaturesRun, list[Process]]:
    """Scenario A: the first push to main, with an empty cache."""
    return play(tmp_path_factory.mktemp("first"), repository, None)


@pytest.fixture
def saved(first: tuple[FeaturesRun, list[Process]], tmp_path: Path) -> Path:
    """What the first push has saved, in a folder that the test may damage."""
    run, _ = first
    assert run.outputs["save"] == "true", run.parts
    leave = shutil.ignore_patterns("README.md")
    return Path(shutil.copytree(run.workspace / "cache", tmp_path / "saved", ignore=leave))


@pytest.fixture
def source(repository: Path, tmp_path: Path) -> Path:
    """The repository, to be edited."""
    return Path(shutil.copytree(repository, tmp_path / "source"))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and bytes of the models and the stores below a cache folder."""
    names = ("translator", "english", "translation", "transfer")
    files = [path for name in names for path in (folder / "sample" / name).rglob("*.*")]
    files = [path for path in files if path.suffix != ".lock"]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def stores(cache: Path, kind: str) -> list[Path]:
    return list((cache / "sample" / kind).glob("*.h5"))


def test_a_first_push_computes_and_saves_everything(
    first: tuple[FeaturesRun, list[Process]], repository: Path
) -> None:
    run, processes = first
    assert_right(run, processes, ALL)
    assert "missing" in run.parts[CHECK]
    assert re.fullmatch(r"[0-9a-f]{64}", run.outputs["digest"])
    assert re.search(r"^translation: time unknown until 100 sentences are done", run.summary, re.M)
    # From a commit that is known, and clean: neither the cache nor the installation lies about in it.
    assert f"commit {git(repository, 'rev-parse', 'HEAD')}" in run.summary


def test_only_edited_sentences_are_computed(
    first: tuple[FeaturesRun, list[Process]], source: Path, saved: Path, tmp_path: Path
) -> None:
    data = source / "data"
    train = blocks(data / "german.train")
    for number in (3, 17):
        train[number] = f"Neulich{number} O\n{train[number]}"
    write_blocks(data / "german.train", train[::-1])
    dev = blocks(data / "german.dev")
    write_blocks(data / "german.dev", [dev[0] + "\nja O", *dev[1:]])
    labels = (data / "german.test").read_text("utf-8")
    assert "-PER" in labels
    (data / "german.test").write_text(labels.replace("-PER", "-ORG"), "utf-8")
    head = commit(source)

    old = [path for kind in ("translation", "transfer") for path in stores(saved, kind)]
    leftovers = [path.with_name(f"2-0123{end}") for path in old for end in (".h5", ".h5.01234567.partial")]
    for leftover in leftovers:  # of other settings, and of a run that was killed
        shutil.copy(old[0], leftover)
    run, processes = play(tmp_path, source, saved)
    assert_right(run, processes, EDITED)
    assert run.parts[CHECK].count(f"stale; {ALL} sentences, {EDITED} to compute, {EDITED} no longer") == 2
    assert len(re.findall(rf": {EDITED} sentences at .*\n.*; commit {head}\n", run.summary)) == 2
    assert run.outputs["digest"] != first[0].outputs["digest"]
    # What was not edited is what it was, to the bit.
    cache = run.workspace / "cache"
    for path in old:
        before, after = StoreReader(path), StoreReader(cache / path.relative_to(saved))
        kept = set(before) & set(after)
        assert len(kept) == ALL - EDITED
        for key in kept:
            assert all(value.tobytes() == after[key][name].tobytes() for name, value in before[key].items())
    assert not [path for path in leftovers if (cache / path.relative_to(saved)).exists()]


def test_where_nothing_changed_no_model_is_loaded(
    first: tuple[FeaturesRun, list[Process]], source: Path, saved: Path, tmp_path: Path
) -> None:
    commit(source)
    before = contents(saved)
    run, processes = play(tmp_path, source, saved)
    assert_right(run, processes, 0)
    assert_fresh(run.parts[CHECK])
    assert contents(run.workspace / "cache") == before
    assert run.outputs["digest"] == first[0].outputs["digest"]
    # `models` looks whether there is something to train, for which it loads torch; what it left says no.
    assert not [process for process in processes if process.torch and process.arguments[0] != "models"]


def test_a_corrupt_cache_stops_the_workflow_and_is_not_saved(
    source: Path, saved: Path, tmp_path: Path
) -> None:
    (path,) = stores(saved, "translation")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    dev = source / "data/german.dev"
    write_blocks(dev, [*blocks(dev)[:-1], "Etwas O\nNeues O"])
    commit(source)
    run, _ = play(tmp_path, source, saved)
    assert run.returncode == 2
    assert list(run.parts) == [TRAIN, CHECK]
    assert f"translation: corrupt; {ALL} sentences" in run.parts[CHECK]
    assert f"cache/sample/translation/{path.name}: its keys, offsets or attributes" in run.parts[CHECK]
    assert "::error::Stopped: the lines above" in run.parts[CHECK]
    assert run.outputs == {}
