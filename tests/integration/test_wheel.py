"""The wheel, built from a copy and installed away from the source tree, with one extra or none.

Each installation holds what the wheel's own metadata asks for and no more, linked from the environment of the
tests: what an extra forgets is missing here too.
"""

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from email.parser import Parser
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from backattn.common.extras import PACKAGES
from tiny_english import random_tagger, save_pickle
from tiny_marian import make_marian

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SMALL = {
    "translator.beam": "1",
    "translator.training.learning_rates": "[0.5]",
    "translator.training.average": "1",
    "translator.training.test_limit": "20",
    "translator.training.parallel": '[{ path = "${BACKATTN_CACHE}/sample/data/parallel.train.tsv", limit = 300 }]',  # noqa: E501
    "english.training.epochs": "1",
    "english.training.hidden": "8",
    "tagger.epochs": "1",
    "tagger.hidden": "8",
}
OVERRIDES = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
MINE = """# Our own
[corpus]
train = "german.train"
dev = "german.dev"
test = "german.test"
source = "us"
[translator]
kind = "transformers"
checkpoint = "marian"
source = "de"
[english]
kind = "flair"
checkpoint = "english.pt"
[alignment]
path = "aligned.tsv"
"""


def copy_repository(home: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, home)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "pipelines"):
        shutil.copytree(ROOT / name, home / name, symlinks=True, ignore=ignored)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the sdist of a copy of the repository, so that both hold what they must."""
    home = tmp_path_factory.mktemp("wheel")
    copy_repository(home)
    sdist = "import setuptools.build_meta as backend; print(backend.build_sdist('dist'))"
    python = [sys.executable, "-c", sdist]
    subprocess.run(python, cwd=home, check=True, capture_output=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    (archive,) = (home / "dist").glob("*.tar.gz")
    subprocess.run([*pip, "-w", home / "made", archive], cwd=home, check=True, capture_output=True)
    (made,) = (home / "made").glob("*.whl")
    return made


def needed(own: Distribution, extras: set[str]) -> dict[str, Distribution]:
    """The distributions of the tests' environment that ``backattn[extras]`` asks for, and these in turn."""
    found: dict[str, Distribution] = {}
    waiting, seen = [("backattn", frozenset(extras))], set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        dist = own if name == "backattn" else distribution(name)
        if dist is not own:
            found[name] = dist
        for line in dist.requires or ():
            asked = Requirement(line)
            if asked.marker is None or any(asked.marker.evaluate({"extra": one}) for one in {"", *wanted}):
                waiting.append((asked.name, frozenset(asked.extras)))
    return found


@pytest.fixture(scope="session")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of the programs of an environment with ``backattn[extras]``; made once for each."""
    made: dict[tuple[str, ...], Path] = {}

    def installed(*extras: str) -> Path:
        if extras not in made:
            home = tmp_path_factory.mktemp("_".join(["venv", *extras]))
            venv.create(home)
            pip = [sys.executable, "-m", "pip", "--python", home / "bin/python", "install", "--quiet"]
            subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True, cwd=home)
            (site,) = home.glob("lib/*/site-packages")
            (own,) = site.glob("backattn-*.dist-info")
            for dist in needed(PathDistribution(own), set(extras)).values():
                for name in {file.parts[0] for file in dist.files or ()} - {"..", "__pycache__"}:
                    if not (site / name).exists():
                        (site / name).symlink_to(Path(str(dist.locate_file(name))))
            made[extras] = home / "bin"
        return made[extras]

    return installed


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the environment of a user who has set nothing."""
    for name in ("PYTHONPATH", "BACKATTN_DATA", "BACKATTN_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(
    programs: Path, *arguments: str, text: str = "", program: tuple[str, ...] = ("backattn",), status: int = 0
) -> str:
    """What a command prints: on standard output, or on standard error where it fails as it must."""
    command = [str(programs / program[0]), *program[1:], *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == status, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stderr if status else done.stdout


def test_a_clone_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """Also where setuptools-scm is installed, as for fairseq: it tells setuptools which files git holds."""
    copy_repository(tmp_path)
    for command in (["git", "init", "-q"], ["git", "add", "-A"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    code = "import setuptools_scm, setuptools.build_meta as backend; backend.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    (made,) = (tmp_path / "dist").glob("*.whl")
    with ZipFile(wheel) as expected, ZipFile(made) as found:
        assert sorted(found.namelist()) == sorted(expected.namelist())


def test_what_the_wheel_ships_has_licence_and_origin(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode("utf-8"))
        shipped = {Path(name).name: archive.read(name) for name in archive.namelist() if "pipelines/" in name}
        licence = archive.read(f"{Path(name).parent}/licenses/LICENSE")
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert shipped == {path.name: path.read_bytes() for path in (ROOT / "pipelines").iterdir()}
    names = {line.rsplit(" ", 1)[1] for line in metadata.get_all("Classifier", ()) if ":: 3." in line}
    assert names == {"3.11", "3.12", "3.13"}
    assert set(PACKAGES) < set(metadata.get_all("Provides-Extra", ()))


def test_without_an_extra_stage_two_runs_in_an_empty_folder(
    install: Callable[..., Path], empty: Path
) -> None:
    programs = install()
    known = json.loads(run(programs, "recipes", "--json"))
    assert {Path(about["path"]).parent.name for about in known.values()} == {"pipelines"}
    assert all(Path(about["path"]).is_relative_to(programs.parent) for about in known.values())
    assert all(about["about"] for about in known.values())
    run(programs, "sample")
    assert "150" in run(programs, "corpus", "sample")
    assert "tagger.epochs" in run(programs, "keys", "tagger")
    assert "backattn translator train sample" in run(programs, "check", "sample", status=2)
    options = ("--inputs", "words", "--seeds", "1", "--threads", "1", "--json", *OVERRIDES)
    (made,) = json.loads(run(programs, "train", "sample", *options))
    assert "München" in run(programs, "tag", made["folder"], text="Frau Weber wohnt in München .\n")
    assert Path(made["folder"]).name in run(programs, "report", "sample", "--json")
    python = ("python", "-m", "backattn")
    assert run(programs, "recipes", program=python) == run(programs, "recipes")


@pytest.mark.parametrize(
    ("extras", "arguments", "missing", "wanted"),
    [
        ((), ["demo"], "flair and fairseq", "flair,fairseq"),
        ((), ["models", "sample"], "fairseq and flair", "fairseq,flair"),
        (("fairseq",), ["models", "sample"], "flair", "flair"),
        ((), ["translator", "train", "sample"], "fairseq", "fairseq"),
        ((), ["english", "train"], "flair", "flair"),
        ((), ["english", "convert", "a", "b"], "flair", "flair"),
        ((), ["charlm", "train", "es"], "flair", "flair"),
        ((), ["features", "mine"], "transformers and flair", "transformers,flair"),
        (("transformers",), ["features", "mine"], "flair", "flair"),
        ((), ["features", "mine", "--set", "translator.kind=copy"], "flair", "flair"),
        ((), ["features", "mine", "--set", "translator.kind=fairseq"], "fairseq and flair", "fairseq,flair"),
        ((), ["align", "mine"], "transformers", "transformers"),
        (
            ("flair",),
            ["features", "mine", "--only", "embeddings", *("--set", 'tagger.embeddings=["bert"]'),
             *("--set", "embeddings.bert.hub=x")],
            "", "",
        ),
        (
            (),
            ["features", "mine", "--only", "embeddings", *("--set", 'tagger.embeddings=["bert"]'),
             *("--set", "embeddings.bert.hub=x")],
            "transformers", "transformers",
        ),
    ],
)  # fmt: skip
def test_a_command_says_which_extra_it_misses_and_what_to_type(
    install: Callable[..., Path], empty: Path, extras: tuple[str, ...], arguments: list[str],
    missing: str, wanted: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Before any work: the models of ``mine`` are of a hub, and nothing is fetched."""
    recipe = MINE.replace('checkpoint = "marian"', 'hub = "a/b"').replace(
        'checkpoint = "english.pt"', 'hub = "c"'
    )
    (empty / "pipelines").mkdir()
    (empty / "pipelines/mine.toml").write_text(recipe)
    (empty / "data").mkdir()
    for split in ("train", "dev", "test"):
        (empty / f"data/german.{split}").write_text(f"Anna B-PER\n{split} O\n")
    (empty / "data/aligned.tsv").write_text("Anna singt\tAnna sings\t0-0 1-1\n")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = run(install(*extras), *arguments, status=2)
    assert error.count("\n") == 1, error
    if wanted:
        assert f": not installed here: {missing}; type: " in error
        assert error.endswith(f"'backattn[{wanted}]'\n")
        assert ("--no-build-isolation" in error) == ("fairseq" in wanted)
    else:  # transformers came with flair
        assert "not installed" not in error


@pytest.fixture
def mine(empty: Path) -> Path:
    """A recipe with a tiny public translator and a tiny English tagger, and its corpus."""
    make_marian(empty / "cache/marian")
    save_pickle(random_tagger(empty), empty / "cache/english.pt")
    for name, text in {
        "pipelines/mine.toml": MINE,
        "data/aligned.tsv": "wir gehen\twe go\t0-0 1-1\n",
    }.items():
        (empty / name).parent.mkdir(exist_ok=True)
        (empty / name).write_text(text)
    for split in ("train", "dev", "test"):
        (empty / f"data/german.{split}").write_text(f"Anna B-PER\n{split} O\n")
    return empty


def test_public_translators_need_no_fairseq(install: Callable[..., Path], mine: Path) -> None:
    assert "aer" in run(install("transformers"), "align", "mine", "--json").lower()
    both = install("transformers", "flair")
    made = json.loads(run(both, "features", "mine", "--trust", "--json"))
    assert made["transfer"]["computed"] == 3
    options = ("--inputs", "words+transfer", "--seeds", "1", "--json", *OVERRIDES[-4:])
    (trained,) = json.loads(run(both, "train", "mine", *options))
    assert "Anna" in run(both, "tag", trained["folder"], "--trust", text="Anna singt\n")


def test_the_demo_in_small_runs_from_the_wheel(install: Callable[..., Path], empty: Path) -> None:
    """Each training with its own extra alone, then stage one with both."""
    fairseq, flair, both = install("fairseq"), install("flair"), install("features")
    run(both, "sample")
    run(fairseq, "translator", "train", "sample", "--threads", "1", *OVERRIDES)
    run(flair, "english", "train", "sample", "--threads", "1", *OVERRIDES)
    states = json.loads(run(both, "models", "sample", "--dry-run", "--json"))
    assert [model["state"] for model in states] == ["there", "there"]
    made = json.loads(run(both, "features", "sample", "--json", *OVERRIDES))
    assert made["transfer"]["sentences"] == made["transfer"]["computed"] > 600
    run(both, "check", "sample", "--deep", *OVERRIDES)
    options = ("--seeds", "1", "--threads", "1", "--json", *OVERRIDES)
    runs = json.loads(run(both, "train", "sample", *options))
    assert len(runs) == 2
    assert "Back Attention" in run(install(), "report", "sample", "--json") + (
        empty / "cache/sample/report/report.html"
    ).read_text("utf-8")
    assert "München" in run(both, "tag", runs[1]["folder"], text="Frau Weber wohnt in München .\n")


def test_fast_tests_pass_away_from_the_source_tree(install: Callable[..., Path], empty: Path) -> None:
    """Those of the packages that read what users give; they find the package in the wheel alone."""
    for name in ("tests", "pipelines", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, empty / name)  # type: ignore[operator]
    chosen = ("tests/cli", "tests/corpus", "tests/recipe", "tests/demo", "tests/common/test_safe_text.py")
    # The Makefile is none of the wheel's.
    options = ("-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", "-k", "not TestMake", *chosen)
    out = run(install("features", "dev"), *options, program=("python", "-m", "pytest"))
    assert " passed" in out
