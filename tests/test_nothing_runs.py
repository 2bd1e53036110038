"""Read from the syntax trees: no line of the library gives data to a shell, to ``eval`` or to a pickle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
# A flair model is a pickle until it is converted: opened after its digest, or the user, vouched for it.
UNPICKLES = {"backattn/models/flair_serialisation.py"}
RUNNERS = {"os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv", "os.startfile", "pty.spawn"}
RUNNERS |= {"os.posix_spawn", "os.posix_spawnp"}
# The library starts no other program, git least of all: a folder's .git/config names programs that git runs.
STARTERS = {"subprocess", "pty", "pexpect", "git", "dulwich"}
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# An error of torch's own safe reader has this class; it reads nothing.
HARMLESS = {"pickle.UnpicklingError"}


def dotted(node: ast.AST) -> str:
    """``os.path.join`` of the expression that says so; empty for any other."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def offences(tree: ast.AST) -> Iterator[str]:
    """What runs, or could run, what it is given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {a.name}" for a in node.names if a.name.split(".")[0] in PICKLES | STARTERS)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (
                f"import {n}" for n in names if n.split(".")[0] in PICKLES | STARTERS and n not in HARMLESS
            )
            yield from (f"import {n}" for n in names if n in RUNNERS)
        elif isinstance(node, ast.Name) and node.id in {"eval", "exec", "compile", "__import__"}:
            yield node.id
        elif isinstance(node, ast.Attribute) and dotted(node) in RUNNERS:
            yield dotted(node)
        elif isinstance(node, ast.keyword) and node.arg == "shell":
            yield "shell="
        elif isinstance(node, ast.keyword) and node.arg == "weights_only":
            if not (isinstance(node.value, ast.Constant) and node.value.value is True):
                yield "weights_only="
        elif isinstance(node, ast.Call) and dotted(node.func) == "torch.load":
            if "weights_only" not in {keyword.arg for keyword in node.keywords}:
                yield "torch.load without weights_only"
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield "allow_pickle="


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.name)
def test_nothing_of_the_library_runs_what_it_reads(path: Path) -> None:
    found = set(offences(ast.parse(path.read_text("utf-8"))))
    if str(path.relative_to(SOURCE)) in UNPICKLES:
        found -= {"weights_only=", "import pickle"}
    assert not found, f"{path}: {found}"


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import os\nos.system(x)",
        "from os import system",
        "eval(x)",
        "run = eval",
        "exec(x)",
        "run(x, shell=True)",
        "import subprocess",
        "from subprocess import run",
        "os.posix_spawn(x, y, z)",
        "torch.load(x)",
        "torch.load(x, weights_only=y)",
        "torch.load(x, weights_only=False)",
        "np.load(x, allow_pickle=True)",
        "import dill.source",
    ],
)
def test_the_test_sees_what_it_must(code: str) -> None:
    assert list(offences(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "from pickle import UnpicklingError",
        "torch.load(x, weights_only=True)",
        "re.compile(x)",
        "import multiprocessing",
    ],
)
def test_the_test_sees_no_more_than_that(code: str) -> None:
    assert not list(offences(ast.parse(code)))
