"""Plays one job of a GitHub workflow on this machine: its commands are run, its actions are stand-ins.

It knows what our workflows use and no more: an expression, an action or a key that it does not know is an
error, never a guess.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_TOKEN = re.compile(r"\s*('[^']*'|==|&&|\|\||[(),]|[A-Za-z_][\w.-]*)")
_EMBEDDED = re.compile(r"\$\{\{(.*?)\}\}", re.S)
# What GitHub calls the two shells: https://docs.github.com/actions, "jobs.<job_id>.steps[*].shell".
_SHELLS = {None: ["bash", "-e"], "bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"]}


class UnknownError(Exception):
    """The workflow uses something that this runner does not know."""


def read_workflow(path: Path) -> dict[str, Any]:
    """A workflow as plain values. YAML 1.1 reads the key `on` as true; here it is `on` again."""
    workflow = yaml.safe_load(path.read_text("utf-8"))
    workflow["on"] = workflow.pop(True)
    return workflow


@dataclass
class Cache:
    """The repository's caches: immutable, newest last. As GitHub's, an entry belongs to its path list."""

    folder: Path
    entries: list[tuple[str, str, Path]] = field(default_factory=list)  # key, path list, what was saved

    @property
    def keys(self) -> list[str]:
        return [key for key, _, _ in self.entries]

    def copy(self, folder: Path) -> "Cache":
        """The same entries in a folder of their own, which a test may damage."""
        twin = Cache(folder)
        for number, (key, paths, saved) in enumerate(self.entries):
            twin.entries.append((key, paths, Path(shutil.copytree(saved, folder / str(number)))))
        return twin

    def find(self, key: str, paths: str, prefixes: list[str]) -> tuple[str, Path] | None:
        """The entry of that name, else the newest that begins with it, else with a prefix, in order."""
        mine = [(name, saved) for name, of, saved in reversed(self.entries) if of == paths]
        ways: list[Callable[[str], bool]] = [lambda name: name == key]
        ways += [lambda name, prefix=prefix: name.startswith(prefix) for prefix in (key, *prefixes)]
        return next(((name, saved) for way in ways for name, saved in mine if way(name)), None)

    def save(self, key: str, paths: str, workspace: Path) -> None:
        if any((key, paths) == entry[:2] for entry in self.entries):
            return  # GitHub warns, and keeps what is there
        target = self.folder / str(len(self.entries))
        for path in _matches(workspace, paths):
            copy = target / path.relative_to(workspace)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, copy)
            else:
                shutil.copy2(path, copy)
        self.entries.append((key, paths, target))


def _matches(workspace: Path, patterns: str) -> list[Path]:
    lines = patterns.split()
    left_out = {path for line in lines if line.startswith("!") for path in workspace.glob(line[1:])}
    found = {path for line in lines if not line.startswith("!") for path in workspace.glob(line)}
    return sorted(found - left_out)


@dataclass
class Job:
    """One run of a workflow's one job.

    :param source: the repository that is checked out, at its HEAD.
    :param workspace: where; a folder that is not there yet.
    :param environment: of every command, besides what the workflow says.
    :param prepare: called after the checkout, with the workspace: what a fresh runner has not.
    """

    workflow: Mapping[str, Any]
    source: Path
    workspace: Path
    cache: Cache
    event: str
    ref: str
    inputs: Mapping[str, str]
    environment: Mapping[str, str]
    prepare: Callable[[Path], None]
    outcomes: dict[str, str] = field(default_factory=dict)  # step -> success, failure or skipped
    outputs: dict[str, str] = field(default_factory=dict)  # step -> what it printed
    artifacts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _only(self.workflow, "name on permissions concurrency defaults env jobs")
        (self.job,) = self.workflow["jobs"].values()
        _only(self.job, "runs-on timeout-minutes steps")
        self.runner = self.workspace.with_name(self.workspace.name + ".runner")
        self.runner.mkdir()
        self.contexts: dict[str, Any] = {
            "github": {"event_name": self.event, "ref": self.ref},
            "inputs": {name: self.inputs.get(name, "") for name in _inputs(self.workflow)},
            "steps": {},
        }
        self.contexts["env"] = {name: self.fill(text) for name, text in self.workflow["env"].items()}

    @property
    def succeeded(self) -> bool:
        return "failure" not in self.outcomes.values()

    @property
    def summary(self) -> str:
        path = self.runner / "summary"
        return path.read_text("utf-8") if path.exists() else ""

    def run(self) -> "Job":
        for step in self.job["steps"]:
            _only(step, "name id if uses with run")
            name = step.get("name") or step.get("uses") or step["run"]
            assert name not in self.outcomes, f"two steps are called {name}"
            if "id" in step:
                self.contexts["steps"][step["id"]] = {"outputs": {}}
            # A condition without a status function stands behind an unwritten success().
            if not self.succeeded or not self.evaluate(step.get("if", "'always'")):
                self.outcomes[name] = "skipped"
                continue
            self.outcomes[name] = "success" if self._step(name, step) else "failure"
        return self

    def evaluate(self, expression: str) -> Any:
        return evaluate(expression, self.contexts, self.hash_files)

    def fill(self, text: str) -> str:
        """A text with its ``${{ }}`` replaced."""
        return _EMBEDDED.sub(lambda match: _text(self.evaluate(match[1])), text)

    def hash_files(self, *patterns: str) -> str:
        """As GitHub's: sha256 over the sha256 of each file; empty where no file matches."""
        files = [path for path in _matches(self.workspace, " ".join(patterns)) if path.is_file()]
        digests = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)
        return hashlib.sha256(digests).hexdigest() if files else ""

    def _step(self, name: str, step: Mapping[str, Any]) -> bool:
        if "run" in step:
            return self._command(name, step)
        action, _, _ = step["uses"].partition("@")
        given = {key: self.fill(str(value)) for key, value in step.get("with", {}).items()}
        return self._act(action, given)

    def _command(self, name: str, step: Mapping[str, Any]) -> bool:
        script, output = self.runner / "script.sh", self.runner / "output"
        script.write_text(self.fill(step["run"]), "utf-8")
        output.write_text("")
        shell = self.workflow.get("defaults", {}).get("run", {}).get("shell")
        files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(self.runner / "summary")}
        done = subprocess.run(
            [*_SHELLS[shell], str(script)],
            cwd=self.workspace, env={**self.environment, **self.contexts["env"], **files},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
        )  # fmt: skip
        self.outputs[name] = done.stdout
        if "id" in step:
            pairs = (line.split("=", 1) for line in output.read_text("utf-8").splitlines())
            self.contexts["steps"][step["id"]]["outputs"] = dict(pairs)
        return done.returncode == 0

    def _act(self, action: str, given: Mapping[str, str]) -> bool:
        match action:
            case "actions/checkout":
                _only(given, "persist-credentials")
                clone = ["git", "clone", "--quiet", str(self.source), str(self.workspace)]
                subprocess.run(clone, env=dict(self.environment), check=True)
                self.prepare(self.workspace)
            case "actions/setup-python":
                _only(given, "python-version cache cache-dependency-path")
                return given["python-version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
            case "actions/cache/restore":
                _only(given, "path key restore-keys")
                found = self.cache.find(given["key"], given["path"], given.get("restore-keys", "").split())
                if found:
                    shutil.copytree(found[1], self.workspace, dirs_exist_ok=True)
            case "actions/cache/save":
                _only(given, "path key")
                self.cache.save(given["key"], given["path"], self.workspace)
            case "actions/upload-artifact":
                _only(given, "name path if-no-files-found retention-days")
                found_files = _matches(self.workspace, given["path"])
                self.artifacts += [str(path.relative_to(self.workspace)) for path in found_files]
                return bool(found_files)
            case _:
                raise UnknownError(f"uses: {action}")
        return True


def _inputs(workflow: Mapping[str, Any]) -> list[str]:
    return list(((workflow["on"].get("workflow_dispatch") or {}).get("inputs")) or {})


def _only(table: Mapping[str, Any], known: str) -> None:
    if unknown := set(table) - set(known.split()):
        raise UnknownError(f"keys {sorted(map(str, unknown))}")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def evaluate(expression: str, contexts: Mapping[str, Any], hash_files: Callable[..., str]) -> Any:
    """The value of what stands between ``${{`` and ``}}``: names, texts, ``==``, ``&&``, ``||``, hashFiles.

    :raises UnknownError: for anything else.
    """
    tokens = [*_tokens(expression.strip()), ""]

    def take(*wanted: str) -> str:
        if wanted and tokens[0] not in wanted:
            raise UnknownError(f"{expression}: {tokens[0]!r} where {wanted} was expected")
        return tokens.pop(0)

    def either() -> Any:
        value = both()
        while tokens[0] == "||":
            take()
            other = both()
            value = value or other
        return value

    def both() -> Any:
        value = equal()
        while tokens[0] == "&&":
            take()
            other = equal()
            value = value and other
        return value

    def equal() -> Any:
        value = one()
        if tokens[0] == "==":
            take()
            value = value.lower() == one().lower()  # GitHub's == does not see the case of letters
        return value

    def one() -> Any:
        token = take()
        if token.startswith("'"):
            return token[1:-1]
        if token == "(":
            value = either()
            take(")")
            return value
        if token == "hashFiles":
            arguments = []
            while take("(", ",", ")") != ")":
                arguments.append(one())
            return hash_files(*arguments)
        return _name(token, contexts)

    value = either()
    take("")
    return value


def _tokens(text: str) -> Iterator[str]:
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if not match:
            raise UnknownError(f"{text}: at {text[place:]!r}")
        yield match[1]
        place = match.end()


def _name(token: str, contexts: Mapping[str, Any]) -> str:
    """A dotted name. An output that a step has not set is empty, as in GitHub; any other must be known."""
    value: Any = contexts
    for part in token.split("."):
        if not isinstance(value, Mapping) or (part not in value and not token.startswith("steps.")):
            raise UnknownError(f"the name {token!r}")
        value = value.get(part, "")
    if not isinstance(value, str):
        raise UnknownError(f"the name {token!r}")
    return value


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the caller's environment but the way to its programs."""
    git = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        git |= {f"GIT_{role}_NAME": "test", f"GIT_{role}_EMAIL": "test@example.org"}
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **git, **more}
