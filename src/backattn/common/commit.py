"""Read the commit of the package's own checkout, for provenance, without running git."""

import os
import re
import stat
import tomllib
from pathlib import Path

_COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")  # SHA-1 and SHA-256 repositories
# Sizes in bytes; a file of git that is larger is not read.
_MAX_POINTER, _MAX_PACKED_REFS, _MAX_PYPROJECT = 4096, 1 << 24, 1 << 20
_MAX_SYMBOLIC_REFS = 5  # git's own limit


def package_commit() -> str:
    """Read the commit of the package's own checkout; empty where it does not run from one.

    The files of ``.git`` are read here and git is never called, because it runs programs that a folder's
    ``.git/config`` names. The working folder of the user is not read. Changes of the checkout after the
    commit are not detected, which would need git itself.
    """
    package = Path(__file__).resolve().parents[1]
    root = package.parents[1]
    try:
        if not _is_own_checkout(root, package):
            return ""
        folder = _git_folder(root)
        return _resolve_head(folder, _common_folder(folder))
    except (OSError, ValueError, RecursionError):  # of an unknown form
        return ""


def _is_own_checkout(root: Path, package: Path) -> bool:
    """Return whether a folder is a checkout of backattn, and not a project that has it installed inside."""
    if package != root / "src" / "backattn" or not (root / ".git").exists():
        return False
    project = tomllib.loads(_read_text(root / "pyproject.toml", _MAX_PYPROJECT)).get("project")
    return isinstance(project, dict) and project.get("name") == "backattn"


def _git_folder(root: Path) -> Path:
    """Find the git folder: ``.git`` itself, or the folder that it names in a worktree or a submodule."""
    git = root / ".git"
    if git.is_dir():
        return git
    word, _, place = _read_text(git, _MAX_POINTER).rstrip("\n").partition(": ")
    if word != "gitdir" or not place:
        raise ValueError(f"{git}: not a file of git")
    return root / place


def _common_folder(folder: Path) -> Path:
    """Find the folder that all worktrees of a repository share, with its branches."""
    named = folder / "commondir"
    return folder / _read_text(named, _MAX_POINTER).strip() if named.exists() else folder


def _resolve_head(folder: Path, common: Path) -> str:
    """Follow HEAD to a commit."""
    value = _read_text(folder / "HEAD", _MAX_POINTER).strip()
    for _ in range(_MAX_SYMBOLIC_REFS):
        if not value.startswith("ref: "):
            return value if _COMMIT.fullmatch(value) else ""
        name = value.removeprefix("ref: ")
        if not name.startswith("refs/") or {"", ".", ".."} & set(name.split("/")):
            return ""
        try:
            value = _read_text(common / name, _MAX_POINTER).strip()
        except (FileNotFoundError, IsADirectoryError):  # git leaves empty folders behind
            value = _packed_ref(common, name)
    return ""


def _packed_ref(common: Path, name: str) -> str:
    """Look a branch up among the packed references; empty where it is not there, as before a first commit."""
    try:
        lines = _read_text(common / "packed-refs", _MAX_PACKED_REFS).splitlines()
    except FileNotFoundError:
        return ""
    return next((commit for commit, _, ref in (line.partition(" ") for line in lines) if ref == name), "")


def _read_text(path: Path, limit: int) -> str:
    """Read a small regular file; refuse links, and pipes and devices, which never end."""
    with open(path, "rb", opener=_open_without_links) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{path}: not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path}: larger than {limit} bytes")
    return data.decode("utf-8")


def _open_without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
