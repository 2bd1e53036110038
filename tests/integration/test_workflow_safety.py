"""What a workflow that strangers can start must never do, and what its runner must not guess."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from workflow_runner import Cache, Job, UnknownError, evaluate, read_workflow

WORKFLOWS = Path(__file__).parents[2] / ".github/workflows"
FEATURES = WORKFLOWS / "features.yml"
MAIN, PULL = "refs/heads/main", "refs/pull/7/merge"


def new_job(folder: Path, event: str, ref: str, inputs: dict[str, str]) -> Job:
    """A job of features.yml that is asked, not run."""
    workflow, cache = read_workflow(FEATURES), Cache(folder)
    return Job(workflow, folder, folder / "workspace", cache, event, ref, inputs, {}, lambda workspace: None)


def features_steps(action: str) -> list[dict[str, Any]]:
    steps = read_workflow(FEATURES)["jobs"]["features"]["steps"]
    return [step for step in steps if step.get("uses", "").startswith(action)]


@pytest.mark.parametrize(
    ("event", "ref", "status", "saves"),
    [
        ("push", MAIN, "1", True),
        ("workflow_dispatch", MAIN, "1", True),
        ("push", MAIN, "0", False),
        ("push", MAIN, "", False),
        ("push", "refs/heads/other", "1", False),
        ("push", "refs/tags/main", "1", False),
        ("workflow_dispatch", "refs/heads/other", "1", False),
        ("pull_request", PULL, "1", False),
        # Never a trigger of ours; these two run with the rights of main on what a stranger sent.
        ("pull_request_target", MAIN, "1", False),
        ("workflow_run", MAIN, "1", False),
    ],
)
def test_who_may_save(tmp_path: Path, event: str, ref: str, status: str, saves: bool) -> None:
    job = new_job(tmp_path, event, ref, {})
    job.contexts["steps"]["before"] = {"outputs": {"status": status} if status else {}}
    (save,) = features_steps("actions/cache/save@")
    assert job.evaluate(save["if"]) is saves


@pytest.mark.parametrize(
    ("lang", "calls"),
    [
        ("sample", ["sample", "models --replace --others -- sample"]),
        ("-x;y", ["models --replace --others -- -x;y"]),
    ],
)
def test_the_models_of_the_recipe_are_trained(tmp_path: Path, lang: str, calls: list[str]) -> None:
    """The commands of the step, with a program in backattn's place that writes down how it is called."""
    program = tmp_path / ".venv/bin/backattn"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$@" >> calls\n')
    program.chmod(0o755)
    (step,) = (
        step
        for step in read_workflow(FEATURES)["jobs"]["features"]["steps"]
        if step.get("name", "").startswith("Train the models")
    )
    subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=tmp_path, env={**os.environ, "RECIPE": lang}, check=True
    )
    assert (tmp_path / "calls").read_text().splitlines() == calls


def test_recipes_do_not_take_each_others_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path, [("features/de-wmt19/1", "cache/*", tmp_path)])
    (restore,) = features_steps("actions/cache/restore@")
    for lang, found in (("de", False), ("de-wmt19", True)):
        key, prefix = (
            restore["with"][name].replace("${{ env.RECIPE }}", lang) for name in ("key", "restore-keys")
        )
        assert bool(cache.find(key, "cache/*", prefix.split())) is found


def test_the_cache_that_is_saved_is_the_one_that_is_restored() -> None:
    """GitHub finds no cache that was saved from another list of paths."""
    used = features_steps("actions/cache")
    assert [step["uses"].partition("@")[0] for step in used] == [
        "actions/cache/restore",
        "actions/cache/save",
    ]
    assert used[0]["with"]["path"] == used[1]["with"]["path"]


@pytest.mark.parametrize(
    ("event", "ref", "cancelled"),
    [("push", MAIN, "false"), ("workflow_dispatch", MAIN, "false"), ("pull_request", PULL, "true")],
)
def test_a_save_is_never_cut_short(tmp_path: Path, event: str, ref: str, cancelled: str) -> None:
    job = new_job(tmp_path, event, ref, {})
    concurrency = job.workflow["concurrency"]
    assert job.fill(concurrency["cancel-in-progress"]) == cancelled
    assert ref in job.fill(concurrency["group"])


@pytest.mark.parametrize(("lang", "recipe"), [("", "sample"), ("de", "de")])
def test_who_starts_it_by_hand_may_name_the_recipe(tmp_path: Path, lang: str, recipe: str) -> None:
    job = new_job(tmp_path, "workflow_dispatch", MAIN, {"lang": lang})
    assert job.contexts["env"]["RECIPE"] == recipe


@pytest.fixture(params=sorted(path.name for path in WORKFLOWS.glob("*.yml")))
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read_workflow(WORKFLOWS / request.param)


def test_a_stranger_gets_a_token_that_reads_and_no_secret(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow["on"]) <= {"push", "pull_request", "workflow_dispatch", "schedule"}
    assert "secrets." not in json.dumps(workflow)
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.y*ml")), ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    """A tag can be moved to other code; which version a commit is stands beside it."""
    text = path.read_text("utf-8")
    used = re.findall(r"uses:.*", text)
    assert len(used) == sum("uses" in s for job in read_workflow(path)["jobs"].values() for s in job["steps"])
    for line in used:
        assert re.fullmatch(r"uses: actions/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_an_action_is_pinned_to_one_commit() -> None:
    text = "".join(path.read_text("utf-8") for path in WORKFLOWS.glob("*.y*ml"))
    pins = set(re.findall(r"uses: actions/([\w-]+)[\w/-]*@(\S+ # \S+)", text))
    assert len(pins) == len({action for action, _ in pins}), pins


def test_a_shell_reads_foreign_text_from_quoted_variables_alone(workflow: dict[str, Any]) -> None:
    for job in workflow["jobs"].values():
        for run in (step["run"] for step in job["steps"] if "run" in step):
            assert "${{" not in run
            bare = re.sub(r'"[^"]*"', "", run).replace("$?", "")
            assert "$" not in bare, f"a variable without quotes: {run}"
            subprocess.run(["bash", "-n"], input=run, text=True, check=True)


@pytest.mark.parametrize(
    "expression",
    ["always()", "vars.X == 'a'", "github.actor", "github", "steps.other.outputs.x", "env.A != 'b'",
     "!env.A", "env.A ==", "env.A env.A", "('a'", "", "hashFiles('a'", "1"],
)  # fmt: skip
def test_an_unknown_expression_is_an_error(expression: str) -> None:
    contexts = {"github": {"ref": "x"}, "env": {"A": "a"}, "steps": {}}
    with pytest.raises(UnknownError):
        evaluate(expression, contexts, lambda *patterns: "")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("env.A", "a"),
        ("'' || env.A", "a"),
        ("env.A && ''", ""),
        ("env.A == 'A' && (env.B == 'x' || env.B == 'b')", True),
        ("env.A == 'a' || env.A == 'b' && env.A == 'c'", True),
        ("steps.before.outputs.nothing == '1'", False),
        ("hashFiles('x', 'y')", "x+y"),
    ],
)
def test_expressions_mean_what_they_mean_at_github(expression: str, value: Any) -> None:
    contexts = {"env": {"A": "a", "B": "b"}, "steps": {"before": {"outputs": {}}}}
    assert evaluate(expression, contexts, lambda *patterns: "+".join(patterns)) == value
