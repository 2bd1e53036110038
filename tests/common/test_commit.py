"""The commit in a store's provenance: the package's own, read without running what a folder names."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import backattn
from backattn.common import commit as surroundings
from backattn.common.commit import package_commit

PROJECT = '[project]\nname = "backattn"\n'
HEAD = ".git/HEAD"

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    """Git itself, as it is where no user has configured anything."""
    names = ("author.name", "author.email", "committer.name", "committer.email")
    settings = [word for name in names for word in ("-c", f"{name}=a@example.org")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment = {**kept, "GIT_CONFIG_GLOBAL": "/dev/null"}
    command = ["git", *settings, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def put_package(root: Path, project: str = PROJECT) -> Path:
    """A source tree of backattn without its code; gives the file that says where the package is."""
    package = root / "src/backattn"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (root / "pyproject.toml").write_text(project)
    return package / "__init__.py"


def commit_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is told by a package that runs from this tree."""
    monkeypatch.setattr(surroundings, "__file__", str(root / "src/backattn/common/commit.py"))
    return package_commit()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of the package with one commit."""
    root = tmp_path / "checkout"
    put_package(root)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def on_a_branch(root: Path) -> Path:
    return root


def on_a_branch_with_folders(root: Path) -> Path:
    git(root, "checkout", "-q", "-b", "feature/one/two")
    git(root, "commit", "-q", "--allow-empty", "-m", "second")
    return root


def packed(root: Path) -> Path:
    git(root, "tag", "-a", "v1", "-m", "an annotated tag: packed-refs then holds what it points at")
    git(root, "pack-refs", "--all")
    assert not (root / ".git/refs/heads/main").exists()
    return root


def packed_below_an_empty_folder(root: Path) -> Path:
    (packed(root) / ".git/refs/heads/main").mkdir()
    return root


def packed_and_then_moved(root: Path) -> Path:
    git(packed(root), "commit", "-q", "--allow-empty", "-m", "second")
    return root


def detached(root: Path) -> Path:
    git(root, "checkout", "-q", "--detach")
    git(root, "commit", "-q", "--allow-empty", "-m", "second")
    return root


def symbolic_branch(root: Path) -> Path:
    git(root, "symbolic-ref", "refs/heads/other", "refs/heads/main")
    git(root, "symbolic-ref", "HEAD", "refs/heads/other")
    return root


def worktree(root: Path) -> Path:
    place = root.parent / "a worktree"
    git(root, "worktree", "add", "-q", "-b", "other", str(place))
    git(place, "commit", "-q", "--allow-empty", "-m", "second")
    assert (place / ".git").is_file()
    return place


def worktree_of_packed(root: Path) -> Path:
    place = worktree(root)
    git(root, "pack-refs", "--all")
    return place


def detached_worktree(root: Path) -> Path:
    place = root.parent / "detached"
    git(root, "worktree", "add", "-q", "--detach", str(place))
    git(place, "commit", "-q", "--allow-empty", "-m", "second")
    return place


def submodule(root: Path) -> Path:
    above = root.parent / "above"
    above.mkdir()
    git(above, "init", "-q")
    git(above, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(root), "inner")
    git(above / "inner", "commit", "-q", "--allow-empty", "-m", "second")
    return above / "inner"


def through_a_link(root: Path) -> Path:
    (root.parent / "link").symlink_to(root)
    return root.parent / "link"


def edited(root: Path) -> Path:
    (root / "pyproject.toml").write_text(PROJECT + 'version = "2"\n')
    return root


STATES = [
    on_a_branch, on_a_branch_with_folders, packed, packed_below_an_empty_folder, packed_and_then_moved,
    detached, symbolic_branch, worktree, worktree_of_packed, detached_worktree, submodule, through_a_link,
    edited,
]  # fmt: skip


@needs_git
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_the_commit_is_the_one_that_git_itself_tells(
    checkout: Path, state: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(state)
    root = state(checkout)
    assert commit_of(root, monkeypatch) == git(root, "rev-parse", "HEAD")


@needs_git
def test_a_sha256_repository_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_package(tmp_path)
    git(tmp_path, "init", "-q", "--object-format=sha256")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    found = commit_of(tmp_path, monkeypatch)
    assert len(found) == 64
    assert found == git(tmp_path, "rev-parse", "HEAD")


@needs_git
def test_the_commit_of_this_checkout_is_told() -> None:
    root = Path(backattn.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        pytest.skip("the tests do not run from a checkout")
    assert package_commit() == git(root, "rev-parse", "HEAD")


@needs_git
def test_a_repository_around_an_installed_package_is_not_its_own(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's project with a ``.venv`` in it, or one that has copied the package."""
    for place in (".venv/lib/python3.11/site-packages/backattn", "lib/backattn", "src/other/src/backattn"):
        (checkout / place).mkdir(parents=True)
        monkeypatch.setattr(surroundings, "__file__", str(checkout / place / "features" / "surroundings.py"))
        assert package_commit() == ""


@needs_git
@pytest.mark.parametrize(
    "project",
    ['[project]\nname = "other"\n', "[project]\n", "project = 1\n", "", "[", "a = " + "[" * 100_000, None],
    ids=["another name", "no name", "no table", "empty", "no TOML", "nested", "none"],
)
def test_a_checkout_of_another_project_is_not_its_own(
    checkout: Path, project: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if project is None:
        (checkout / "pyproject.toml").unlink()
    else:
        (checkout / "pyproject.toml").write_text(project)
    assert commit_of(checkout, monkeypatch) == ""


@needs_git
def test_before_the_first_commit_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_package(tmp_path)
    assert commit_of(tmp_path, monkeypatch) == ""  # no repository
    git(tmp_path, "init", "-q")
    assert commit_of(tmp_path, monkeypatch) == ""


SECRET = "5ec5ec5ec5ec5ec5ec5ec5ec5ec5ec5ec5ec5ec5"
BAD_HEADS = {
    "a path upwards": "ref: refs/../../../secret",
    "an absolute path": "ref: /secret",
    "out of refs": "ref: ../../secret",
    "a loop": "ref: refs/heads/loop",
    "words": "hello",
    "too short": SECRET[:-1],
    "a line too many": f"{SECRET}\n{SECRET}",
    "nothing": "",
    "a terminal escape": "\x1b[31m",
    "a NUL": "ref: refs/heads/\0",
    "a name too long": "ref: refs/heads/" + "x" * 300,
    "too large": SECRET + " " * 5000,
    "not UTF-8": "\udcff",
}


@pytest.mark.parametrize("head", BAD_HEADS.values(), ids=BAD_HEADS)
def test_a_damaged_head_is_no_commit(tmp_path: Path, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "a/b"
    put_package(root)
    (root / ".git/refs/heads").mkdir(parents=True)
    (root / ".git/refs/heads/loop").write_text("ref: refs/heads/loop\n")
    (root / HEAD).write_bytes(f"{head}\n".encode("utf-8", "surrogateescape"))
    for place in (tmp_path, root):
        (place / "secret").write_text(SECRET)
    assert commit_of(root, monkeypatch) == ""


def link(path: Path) -> None:
    target = path.with_name("target")
    target.write_text(SECRET)
    path.symlink_to(target)


def folder(path: Path) -> None:
    path.mkdir()


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("make", [link, folder, os.mkfifo, sparse], ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", [HEAD, ".git", ".git/refs/heads/main", ".git/packed-refs", ".git/commondir"])
def test_what_is_no_small_file_is_not_read(
    tmp_path: Path, make: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe would never answer, a sparse file fill the memory, a link lead elsewhere."""
    put_package(tmp_path)
    if name != ".git":
        (tmp_path / ".git/refs/heads").mkdir(parents=True)
    if name not in (HEAD, ".git"):
        (tmp_path / HEAD).write_text("ref: refs/heads/main\n")
    assert callable(make)
    make(tmp_path / name)
    assert commit_of(tmp_path, monkeypatch) == ""


# Programs that git runs by itself when it looks at a folder: each writes a marker.
HOSTILE_CONFIG = """
[core]
    fsmonitor = "touch {marker}; false"
    hooksPath = {hooks}
    pager = touch {marker}
    sshCommand = touch {marker}
[filter "x"]
    clean = touch {marker}; cat
    smudge = touch {marker}; cat
    process = touch {marker}
    required = true
[diff "x"]
    textconv = touch {marker}; cat
    command = touch {marker}
[alias]
    describe = !touch {marker}
"""
RECORD = """
import sys
sys.addaudithook(lambda event, found: print(event, found, file=sys.stderr) if event in EVENTS else None)
from backattn.features.environment import header_of, new_origin
from backattn.features.plan import Stage
stage = Stage("transfer", "transfer", "id", {}, None, {}, {}, ())
print(header_of(stage, "cpu").commit, new_origin("", "cpu", "x").commit)
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A received repository: its configuration names programs, and its files differ from its commit."""
    place, marker, hooks = tmp_path / "received", tmp_path / "marker", tmp_path / "hooks"
    put_package(place)  # it even says that it is backattn
    git(place, "init", "-q")
    (place / "data.txt").write_text("one\n")
    (place / ".gitattributes").write_text("* filter=x diff=x\n")
    git(place, "add", ".")
    git(place, "commit", "-q", "-m", "data")
    hooks.mkdir()
    for name in ("fsmonitor-watchman", "post-index-change", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (hooks / name).chmod(0o755)
    with (place / ".git/config").open("a") as file:
        file.write(HOSTILE_CONFIG.format(marker=marker, hooks=hooks))
    (place / "data.txt").write_text("two\n")
    return place


@needs_git
def test_a_received_folder_runs_none_of_its_programs(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the current folder. ``git describe --dirty`` ran its ``core.fsmonitor`` and its clean filters."""
    marker = hostile.parent / "marker"
    describe = ["git", "describe", "--always", "--dirty"]
    subprocess.run(describe, cwd=hostile, capture_output=True, check=False)
    assert marker.exists(), "the attack does not work"
    marker.unlink()
    monkeypatch.chdir(hostile)
    source = str(Path(surroundings.__file__).parents[2])
    events = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", RECORD.replace("EVENTS", repr(events))],
        env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not marker.exists()
    assert done.stderr == ""
    assert git(hostile, "rev-parse", "HEAD") not in done.stdout
