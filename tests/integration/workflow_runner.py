"""Runs `.github/features.sh` as a step of a GitHub workflow, and reads workflows."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAIN, PULL = "refs/heads/main", "refs/pull/7/merge"


def read_workflow(path: Path) -> dict[str, Any]:
    """A workflow as plain values. YAML 1.1 reads the key `on` as true; here it is `on` again."""
    workflow: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    workflow["on"] = workflow.pop(True)  # type: ignore[call-overload]
    return workflow


@dataclass(frozen=True)
class FeaturesRun:
    """One run of the script.

    :param parts: headline -> what was printed below it, standard error included.
    :param outputs: what the workflow's later steps read.
    :param summary: the text for the page of the run.
    """

    workspace: Path
    returncode: int
    parts: Mapping[str, str]
    outputs: Mapping[str, str]
    summary: str


def run_features(
    workspace: Path,
    environment: Mapping[str, str],
    *,
    recipe: str = "sample",
    event: str = "push",
    ref: str = MAIN,
) -> FeaturesRun:
    """Run the script of a checkout with the variables that GitHub sets."""
    output, summary = (workspace.with_name(f"{workspace.name}.{name}") for name in ("output", "summary"))
    github = {
        "RECIPE": recipe,
        "GITHUB_EVENT_NAME": event,
        "GITHUB_REF": ref,
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(summary),
    }
    done = subprocess.run(
        [workspace / ".github/features.sh"],
        cwd=workspace, env={**environment, **github}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
    )  # fmt: skip
    before, *parts = ("\n" + done.stdout).split("\n== ")
    assert not before.strip(), before
    lines = output.read_text("utf-8").splitlines() if output.exists() else []
    return FeaturesRun(
        workspace,
        done.returncode,
        {headline: text for headline, _, text in (part.partition("\n") for part in parts)},
        dict(line.split("=", 1) for line in lines),
        summary.read_text("utf-8") if summary.exists() else "",
    )


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the caller's environment but the way to its programs."""
    git = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        git |= {f"GIT_{role}_NAME": "test", f"GIT_{role}_EMAIL": "test@example.org"}
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **git, **more}
