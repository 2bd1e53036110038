"""features.yml as its users run it: its own steps, in clones of a small repository, a cache between them."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from workflow_runner import Cache, Job, clean_environment, read_workflow

from backattn.sample import write_sample
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
    'parallel.train.tsv" }': 'parallel.train.tsv", limit = 300 }',
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
CHECK, COMPUTE = "Check every byte of what is there", "Compute what is missing"
CHECK_AGAIN, SAVE = (
    "Check again, every byte",
    "actions/cache/save@0057852bfaa89a56745cba8c7296529d2fc39830",
)
MAIN, PULL = "refs/heads/main", "refs/pull/7/merge"


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


@dataclass
class Place:
    """Where the jobs of a test run."""

    folder: Path

    def job(self, source: Path, cache: Cache, event: str = "push", ref: str = MAIN) -> Job:
        self.folder.mkdir(exist_ok=True)
        site = self.folder / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(SPY)
        workspace = self.folder / "workspace"
        environment = clean_environment(
            self.folder,
            # The clone's sources stand before those that the environment was installed from.
            PYTHONPATH=f"{workspace / 'src'}{os.pathsep}{site}",
            PROCESSES=str(self.folder / "processes"),
            OMP_NUM_THREADS="1",
            PIP_NO_INDEX="1",
        )
        workflow = read_workflow(FEATURES)
        return Job(workflow, source, workspace, cache, event, ref, {}, environment, install)

    def processes(self) -> Iterator[tuple[list[str], str, bool]]:
        for line in (self.folder / "processes").read_text("utf-8").splitlines():
            arguments, file, torch = json.loads(line)
            yield arguments, file, torch


def assert_right(job: Job, place: Place, computed: int, *, saved: bool) -> None:
    """Every step succeeded; so many sentences were computed in each stage; every byte was checked twice."""
    assert job.succeeded, job.outputs
    assert job.outcomes == {**dict.fromkeys(job.outcomes, "success"), SAVE: "success" if saved else "skipped"}
    found = re.findall(r"(\d+) sentences, (\d+) computed, 0 taken", job.outputs[COMPUTE])
    assert found == ([(str(ALL), str(computed))] * 2 if computed else [])
    assert_fresh(job.outputs[CHECK_AGAIN])
    calls = list(place.processes())
    assert [arguments for arguments, _, _ in calls].count(["check", "--deep", "--", "sample"]) == 2
    assert {file for _, file, _ in calls} == {str(job.workspace / "src/backattn/__init__.py")}
    assert sorted({Path(name).parent.name for name in job.artifacts}) == ["transfer", "translation"]
    assert "Installing" not in job.outputs["make install"]


def assert_fresh(output: str) -> None:
    """`backattn check` says so of both stores, and of no sentence too many."""
    lines = output.strip().splitlines()
    assert [line.split("; ")[0] for line in lines] == ["translation: fresh", "transfer: fresh"]
    assert all(f"; {ALL} sentences, 0 to compute; " in line for line in lines)


@pytest.fixture(scope="module")
def first(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Place, Cache]:
    """Scenario A: the first push to main, with an empty cache."""
    folder = tmp_path_factory.mktemp("first")
    place, cache = Place(folder), Cache(folder / "caches")
    return place.job(repository, cache).run(), place, cache


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def cache(first: tuple[Job, Place, Cache], tmp_path: Path) -> Cache:
    """What the first push has saved."""
    assert len(first[2].keys) == 1, first[0].outputs
    return first[2].copy(tmp_path / "caches")


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


def test_a_first_push_computes_and_saves_everything(
    first: tuple[Job, Place, Cache], repository: Path
) -> None:
    job, place, cache = first
    assert_right(job, place, ALL, saved=True)
    assert "missing" in job.outputs[CHECK]
    assert re.fullmatch(r"features/sample/[0-9a-f]{64}", cache.keys[0])
    assert not (cache.entries[0][2] / "cache/README.md").exists()
    assert re.search(r"^translation: about \d+ s, ", job.summary, re.M)
    # From a commit that is known, and clean: neither the cache nor the installation lies about in it.
    assert f"commit {git(repository, 'rev-parse', 'HEAD')}" in job.summary


@pytest.mark.parametrize(("event", "ref"), [("push", MAIN), ("pull_request", PULL)])
def test_only_edited_sentences_are_computed_and_only_main_saves(
    place: Place, source: Path, cache: Cache, event: str, ref: str
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

    main, saved = event == "push", cache.entries[0][2]
    old = [path for kind in ("translation", "transfer") for path in stores(saved, kind)]
    leftovers = [path.with_name(f"2-0123{end}") for path in old for end in (".h5", ".h5.01234567.partial")]
    for leftover in leftovers:  # of other settings, and of a run that was killed
        shutil.copy(old[0], leftover)
    job = place.job(source, cache, event, ref).run()
    assert_right(job, place, EDITED, saved=main)
    assert job.outputs[CHECK].count(f"stale; {ALL} sentences, {EDITED} to compute, {EDITED} no longer") == 2
    assert len(re.findall(rf": {EDITED} sentences at .*\n.*; commit {head}\n", job.summary)) == 2
    assert len(cache.keys) == 1 + main
    # What was not edited is what it was, to the bit.
    for path in old:
        before, after = StoreReader(path), StoreReader(job.workspace / path.relative_to(saved))
        kept = set(before) & set(after)
        assert len(kept) == ALL - EDITED
        for key in kept:
            assert all(value.tobytes() == after[key][name].tobytes() for name, value in before[key].items())
    assert not [path for path in leftovers if (job.workspace / path.relative_to(saved)).exists()]
    if main:
        newest = cache.find("features/sample/newest", cache.entries[0][1], ["features/sample/"])
        assert newest
        assert newest[0] == cache.keys[1]


def stores(folder: Path, kind: str) -> list[Path]:
    return list((folder / "cache/sample" / kind).glob("*.h5"))


def test_where_nothing_changed_no_model_is_loaded(place: Place, source: Path, cache: Cache) -> None:
    commit(source)
    before = contents(cache.entries[0][2] / "cache")
    job = place.job(source, cache).run()
    assert_right(job, place, 0, saved=False)
    assert_fresh(job.outputs[CHECK])
    assert contents(job.workspace / "cache") == before
    # `models` looks whether there is something to train, for which it loads torch; what it left says no.
    assert not [arguments for arguments, _, torch in place.processes() if torch and arguments[0] != "models"]
    assert len(cache.keys) == 1


def test_a_corrupt_cache_stops_the_workflow_and_is_not_saved(
    place: Place, source: Path, cache: Cache
) -> None:
    (path,) = stores(cache.entries[0][2], "translation")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    dev = source / "data/german.dev"
    write_blocks(dev, [*blocks(dev)[:-1], "Etwas O\nNeues O"])
    commit(source)
    job = place.job(source, cache).run()
    steps = list(job.outcomes)
    assert [job.outcomes[step] for step in steps[steps.index(CHECK) :]] == (
        ["failure"] + ["skipped"] * (len(steps) - steps.index(CHECK) - 1)
    )
    assert f"translation: corrupt; {ALL} sentences" in job.outputs[CHECK]
    assert f"cache/sample/translation/{path.name}: its keys, offsets or attributes" in job.outputs[CHECK]
    assert "::error::Stopped: the lines above" in job.outputs[CHECK]
    assert (len(cache.keys), job.artifacts) == (1, [])
