"""make's LANG: whatever stands in it reaches `backattn` as one word, and nothing on its way runs it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import date
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
# Says what it was called with; the real one is tested elsewhere.
STUB = f"""#!{sys.executable}
import json, os, sys
with open("calls", "a") as file:
    names = ("LANG", "LC_ALL", "PYTHONUTF8")
    file.write(json.dumps([sys.argv[1:], {{name: os.environ.get(name) for name in names}}]) + "\\n")
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The Makefile with an installation that is up to date and holds the stub alone."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.txt", "requirements-build.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    stub = tmp_path / ".venv/bin/backattn"
    stub.write_text(STUB)
    stub.chmod(0o755)
    stamp = tmp_path / ".venv/.installed"
    stamp.touch()
    later = (tmp_path / "pyproject.toml").stat().st_mtime + 60
    os.utime(stamp, (later, later))
    return tmp_path


def make(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # What a `make test ARGS=...` around these tests hands down is not of the call that is tested.
    ours = ("MAKE", "MFLAGS", "ARGS")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=home, env={**variables, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def calls(home: Path) -> list[list[str]]:
    path = home / "calls"
    return [json.loads(line)[0] for line in path.read_text().splitlines()] if path.exists() else []


HOSTILE = [
    "x; touch harm", "$(shell touch harm)", "${shell touch harm}", "$$(touch harm)", "`touch harm`",
    "$(touch harm)", "x && touch harm", "x | touch harm", "x > harm", "'; touch harm; '", '"; touch harm; "',
    "x\ntouch harm", "x\\", "x # y", "-x", "--help", "--set=name=x", "$(error stop)", "$(eval X:=1)", "%",
    "../../x", "a b", "~", "*", "$HOME", "$", "x,y)", "\x1b[31m",
]  # fmt: skip


@pytest.mark.parametrize("lang", HOSTILE)
def test_lang_is_one_word_whatever_is_in_it(home: Path, lang: str) -> None:
    before = {*home.iterdir(), home / "calls"}
    for target in ("check", "english", "translator"):
        done = make(home, target, f"LANG={lang}", "ARGS=--json --seeds 1")
        assert done.returncode == 0, done.stderr
    words = ["--json", "--seeds", "1", "--", lang]
    expected = [["check", *words], ["english", "train", *words], ["translator", "train", *words]]
    assert calls(home) == expected
    assert {*home.iterdir()} == before


@pytest.mark.parametrize("target", ["features", "check", "train", "corpus", "report"])
def test_a_command_gets_its_lang_and_its_options(home: Path, target: str) -> None:
    assert make(home, target, "LANG=de").returncode == 0
    assert make(home, target, "LANG=zh-ontonotes", "ARGS=--seeds 1 --set 'tagger.epochs = 3'").returncode == 0
    options = ["--seeds", "1", "--set", "tagger.epochs = 3"]
    assert calls(home) == [[target, "--", "de"], [target, *options, "--", "zh-ontonotes"]]


def test_english_has_a_recipe_of_its_own(home: Path) -> None:
    assert make(home, "english").returncode == 0
    assert make(home, "english", "LANG=sample").returncode == 0
    assert calls(home) == [["english", "train", "--", "english"], ["english", "train", "--", "sample"]]


@pytest.mark.parametrize("target", ["features", "translator"])
def test_lang_of_the_environment_is_a_locale_and_no_language(home: Path, target: str) -> None:
    for environment in ({}, {"LANG": "de_DE.UTF-8"}, {"LANG": "$(shell touch harm)"}, {"RECIPE": "de"}):
        done = make(home, target, **environment)
        assert done.returncode == 2
        assert f"say which language: make {target} LANG=de" in done.stderr
    assert not calls(home)
    assert not (home / "harm").exists()


def test_lang_is_nobodys_locale(home: Path) -> None:
    assert make(home, "check", "LANG=de", LC_ALL="C").returncode == 0
    (line,) = (home / "calls").read_text().splitlines()
    assert json.loads(line)[1] == {"LANG": None, "LC_ALL": None, "PYTHONUTF8": "1"}


def test_what_make_prints_says_no_more_than_its_name(home: Path) -> None:
    done = make(home, "--dry-run", "check", "LANG=$(shell touch harm)")
    assert done.stdout == '.venv/bin/backattn check  -- "$BACKATTN_RECIPE"\n'
    assert not (home / "harm").exists()


def test_the_audit_asks_about_every_requirement_and_passes_the_exceptions(home: Path) -> None:
    shutil.copy(ROOT / "audit-exceptions.txt", home)
    auditor = home / ".venv-audit/bin/pip-audit"
    auditor.parent.mkdir(parents=True)
    auditor.write_text(STUB)
    auditor.chmod(0o755)
    (home / ".venv-audit/.installed").touch()
    assert make(home, "audit", "ARGS=-s osv").returncode == 0
    (words,) = calls(home)
    requirements = sorted(path.name for path in ROOT.glob("requirements*.txt"))
    assert sorted(words[i + 1] for i, word in enumerate(words) if word == "--requirement") == requirements
    passed = [words[i + 1] for i, word in enumerate(words) if word == "--ignore-vuln"]
    assert passed == [line.split()[0] for line in exceptions()]
    assert words[-2:] == ["-s", "osv"]
    assert "--strict" in words  # else what the service does not know passes unseen


def exceptions() -> list[str]:
    lines = (ROOT / "audit-exceptions.txt").read_text("utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("line", exceptions(), ids=lambda line: line.split()[0])
def test_an_exception_of_the_audit_names_its_day_its_package_and_its_reason(line: str) -> None:
    advisory, day, package, reason = line.split(maxsplit=3)
    assert re.fullmatch(r"(CVE|GHSA|PYSEC)-[\w-]+", advisory)
    assert date.fromisoformat(day)
    pinned = "".join(path.read_text("utf-8") for path in ROOT.glob("requirements*.txt"))
    assert package.endswith(":")
    assert f"\n{package.removesuffix(':')}==" in pinned
    assert len(reason) > 40


def test_the_pinned_packages_install_on_any_python_that_the_project_names() -> None:
    """pip refuses all of them where one needs a later release, such as 3.11.5."""
    oldest = SpecifierSet(
        tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    )
    (first,) = (clause.version for clause in oldest if clause.operator == ">=")
    pinned = re.findall(r"^([\w.-]+)(?:\[\w,-]+\])?==", (ROOT / "requirements.txt").read_text("utf-8"), re.M)
    needs = {name: metadata(name).get("Requires-Python") or ">=3" for name in pinned}
    assert len(needs) > 50
    assert {name: need for name, need in needs.items() if not SpecifierSet(need).contains(f"{first}.0")} == {}
