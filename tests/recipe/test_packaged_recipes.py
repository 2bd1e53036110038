"""The package's own recipes: known in every folder, after those of ``pipelines/``; what they vouch for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backattn.common.errors import MissingError, RecipeError
from backattn.common.extras import PACKAGES, require_extras
from backattn.models.vouchers import vouchers_of_recipe
from backattn.recipe import PACKAGED, PIPELINES, known_recipes, load_english, load_recipe
from users_folder import run

ROOT = Path(__file__).parents[2]
OWN = """# mine \u202e
[corpus]
train = "a"
dev = "b"
test = "c"
source = "us"
[translator]
kind = "copy"
source = "de"
[english]
checkpoint = "x"
sha256 = "{}"
"""
DIGEST = "ab" * 32


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def own(home: Path) -> Path:
    """A recipe of the current folder with the name of one of the package."""
    PIPELINES.mkdir()
    (PIPELINES / "es.toml").write_text(OWN.format(DIGEST))
    return PIPELINES / "es.toml"


def test_an_empty_folder_knows_the_packages_recipes(home: Path) -> None:
    found = {one.name: one for one in known_recipes()}
    with_corpus = [
        path for path in (ROOT / "pipelines").glob("*.toml") if "[corpus]" in path.read_text("utf-8")
    ]
    assert found.keys() == {path.stem for path in with_corpus}
    for one in found.values():
        assert one.path.parent == PACKAGED
        assert one.path.read_text("utf-8").startswith(f"# {one.about}\n")
        assert one.about.endswith(".")
        assert load_recipe(one.name).name == one.name
    assert load_english("english").training is not None
    status, out, _ = run("recipes")
    assert (status, out.splitlines()[0]) == (0, f"of the package, {PACKAGED}:")


def test_a_recipe_of_the_folder_comes_first(own: Path) -> None:
    (PIPELINES / "mine.toml").write_text(OWN.format(DIGEST)[1:].partition("\n")[2])
    assert load_recipe("es").corpus.source == "us"
    assert load_recipe("de").corpus.source != "us"
    lines = run("recipes")[1].splitlines()
    assert lines[:3] == ["pipelines/:", f"  {'es':12}  mine \\u202e", "  mine"]
    assert [line.split()[0] for line in lines].count("es") == 1


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_stands_in_its_place_does_not_lead_to_the_packages(home: Path, kind: str) -> None:
    """A dangling link or a pipe is said, not passed over."""
    PIPELINES.mkdir()
    path = PIPELINES / "es.toml"
    {"link": lambda: path.symlink_to("gone"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    with pytest.raises((MissingError, RecipeError), match=r"^pipelines/es\.toml: (no such|not a regular)"):
        load_recipe("es")


def test_a_path_never_leads_to_the_packages_recipe(home: Path) -> None:
    for path in ("es.toml", "elsewhere/es.toml", "./es.toml"):
        with pytest.raises(MissingError, match="no such recipe"):
            load_recipe(path)


def test_the_packages_recipes_vouch_and_a_copy_elsewhere_does_not(own: Path) -> None:
    def pinned(lang: str) -> frozenset[str] | None:
        return vouchers_of_recipe(lang, load_recipe(lang), trust=False, named=()).pinned

    (own.parent.parent / "sent").mkdir()
    shutil.copy(own, "sent/es.toml")
    assert pinned("es") == pinned("pipelines/es.toml") == {DIGEST}
    assert pinned("sent/es.toml") == frozenset()
    recipe = load_recipe("es")
    path = str(PACKAGED / "es.toml")
    assert vouchers_of_recipe(path, recipe, trust=False, named=()).pinned == {DIGEST}
    # A folder that only looks like the package's.
    assert (
        vouchers_of_recipe("backattn/pipelines/es.toml", recipe, trust=False, named=()).pinned == frozenset()
    )


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment
    )


def test_python_m_backattn_is_the_command_line(home: Path) -> None:
    done = python("-m", "backattn", "corpus", "--help")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Usage: backattn corpus [OPTIONS] LANG")
    wrong = python("-m", "backattn", "corpus", "nope")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("backattn: pipelines/nope.toml: no such recipe; here are de, ")


def test_python_m_backattn_runs_no_module_of_the_folder(home: Path) -> None:
    for name in ("click", "numpy", "msgspec", "torch", "tomllib"):
        (home / f"{name}.py").write_text("open('harm', 'w')\n")
    assert python("-m", "backattn", "recipes").returncode == 0
    assert not (home / "harm").exists()


@pytest.mark.slow  # a process for each question
def test_a_shell_completes_commands_and_recipes(own: Path) -> None:
    main = ["-c", "from backattn.cli import main; main(prog_name='backattn')"]
    for shell in ("bash", "zsh", "fish"):
        script = python(*main, _BACKATTN_COMPLETE=f"{shell}_source").stdout
        assert f"_BACKATTN_COMPLETE={shell}_complete" in script
    (PIPELINES / "a; touch harm.toml").write_text(OWN)
    chinese = ["zh", "zh-fairseq", "zh-gsd", "zh-ontonotes"]
    for words, found in (
        ("backattn rec", ["recipes"]), ("backattn train zh", chinese), ("backattn train a", []),
    ):  # fmt: skip
        number = str(len(words.split()) - 1)
        done = python(*main, _BACKATTN_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=number)
        assert [line.partition(",")[2] for line in done.stdout.splitlines() if line] == found


def test_every_missing_package_is_named_once_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    require_extras("x", ["flair"])  # it is there, where the tests run
    for names in PACKAGES.values():
        monkeypatch.setitem(sys.modules, names[0], None)  # Python's own way to say that there is none
    with pytest.raises(MissingError) as error:
        require_extras("x", ["flair", "flair"])
    assert str(error.value) == "x: not installed here: flair; type: pip install 'backattn[flair]'"
    with pytest.raises(MissingError) as error:
        require_extras("x", ["transformers", "flair"])
    assert str(error.value) == (
        "x: not installed here: transformers and flair; type: pip install 'backattn[transformers,flair]'"
    )
    with pytest.raises(MissingError, match=r": fairseq; type: pip install cython .*'backattn\[fairseq\]'$"):
        require_extras("x", ["fairseq"])
