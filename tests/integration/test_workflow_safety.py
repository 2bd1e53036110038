"""What a workflow that strangers can start must never do."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from workflow_runner import MAIN, PULL, FeaturesRun, clean_environment, read_workflow, run_features

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github/workflows"
FEATURES = WORKFLOWS / "features.yml"
SCRIPT = ROOT / ".github/features.sh"
STORES = ("translation/a.h5", "transfer/a.h5", "embeddings/bert/a.h5")
# Stands for backattn: writes down how it is called. The first check ends with STATUS, and FAILING fails.
BACKATTN = """#!/bin/bash
printf '%s\\n' "$*" >> calls
[ "$1" != "$FAILING" ] || exit 2
[ "$1" != check ] || [ -e checked ] || { touch checked; exit "$STATUS"; }
"""


def play(
    folder: Path, status: str = "1", failing: str = "", recipe: str = "sample", **github: str
) -> FeaturesRun:
    """The script in a checkout with three stores, and a program in backattn's place."""
    workspace = folder / "workspace"
    for name in (".github", ".venv/bin", *(f"cache/de/{Path(store).parent}" for store in STORES)):
        (workspace / name).mkdir(parents=True)
    for store in STORES:
        (workspace / "cache/de" / store).write_text(store)
    (workspace / ".venv/bin/backattn").write_text(BACKATTN)
    (workspace / ".venv/bin/backattn").chmod(0o755)
    shutil.copy(SCRIPT, workspace / ".github")
    environment = clean_environment(folder, STATUS=status, FAILING=failing)
    return run_features(workspace, environment, recipe=recipe, **github)


def calls(run: FeaturesRun) -> list[str]:
    return (run.workspace / "calls").read_text("utf-8").splitlines()


def features_steps(action: str) -> list[dict[str, Any]]:
    steps = read_workflow(FEATURES)["jobs"]["features"]["steps"]
    return [step for step in steps if step.get("uses", "").startswith(action)]


@pytest.mark.parametrize(
    ("event", "ref", "status", "saves"),
    [
        ("push", MAIN, "1", True),
        ("workflow_dispatch", MAIN, "1", True),
        ("push", MAIN, "0", False),
        ("push", MAIN, "2", False),
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
    run = play(tmp_path, status, event=event, ref=ref)
    assert run.returncode == (2 if status == "2" else 0), run.parts
    assert (run.outputs.get("save") == "true") is saves
    (save,) = features_steps("actions/cache/save@")
    assert save["if"] == "steps.features.outputs.save == 'true'"
    assert {step["id"]: step["run"] for step in features_steps("") if "id" in step} == {
        "features": ".github/features.sh"
    }


@pytest.mark.parametrize("lang", ["sample", "-x;y", "$(touch owned)", "`touch owned`", "*", "a b", "a' \"b"])
def test_the_script_asks_for_the_recipe_by_its_name_whatever_that_is(tmp_path: Path, lang: str) -> None:
    run = play(tmp_path, recipe=lang)
    assert run.returncode == 0, run.parts
    assert calls(run) == [
        *(["sample"] if lang == "sample" else []),
        f"models --replace --others -- {lang}",
        f"check --deep -- {lang}",
        f"features --dry-run -- {lang}",
        f"features -- {lang}",
        f"gc --others -- {lang}",
        f"check --deep -- {lang}",
    ]
    assert not list(tmp_path.rglob("owned"))


@pytest.mark.parametrize("failing", ["models", "features", "gc", "show"])
def test_a_command_that_fails_stops_the_script(tmp_path: Path, failing: str) -> None:
    run = play(tmp_path, failing=failing, recipe="de")
    assert run.returncode == 2
    assert run.outputs == {}
    assert calls(run)[-1].startswith(failing)


@pytest.mark.parametrize("store", STORES)
def test_the_digest_is_of_every_store(tmp_path: Path, store: str) -> None:
    run = play(tmp_path, recipe="de")
    assert [call for call in calls(run) if call.startswith("show")] == [f"show cache/de/{s}" for s in STORES]
    environment = clean_environment(tmp_path, FAILING="", STATUS="")
    again = run_features(run.workspace, environment, recipe="de")
    assert again.outputs["digest"] == run.outputs["digest"]
    (run.workspace / "cache/de" / store).write_text("changed")
    changed = run_features(run.workspace, environment, recipe="de")
    assert changed.outputs["digest"] != run.outputs["digest"]


def test_recipes_do_not_take_each_others_cache() -> None:
    (restore,), (save,) = (features_steps(f"actions/cache/{way}@") for way in ("restore", "save"))
    for lang, found in (("de", False), ("de-wmt19", True)):
        key, prefix, saved = (
            text.replace("${{ env.RECIPE }}", lang)
            for text in (restore["with"]["key"], restore["with"]["restore-keys"], save["with"]["key"])
        )
        assert prefix.split() == [prefix]
        assert "features/de-wmt19/1".startswith((key, prefix)) is found
        assert saved == prefix + "${{ steps.features.outputs.digest }}"


def test_the_cache_that_is_saved_is_the_one_that_is_restored() -> None:
    """GitHub finds no cache that was saved from another list of paths."""
    used = features_steps("actions/cache")
    assert [step["uses"].partition("@")[0] for step in used] == [
        "actions/cache/restore",
        "actions/cache/save",
    ]
    assert used[0]["with"]["path"] == used[1]["with"]["path"] == "cache/*\n!cache/README.md\n"


def test_a_save_is_never_cut_short() -> None:
    """Of a branch's own runs each waits for the one before; a pull request's, which never saves, need not."""
    concurrency = read_workflow(FEATURES)["concurrency"]
    assert concurrency["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"
    assert "${{ github.ref }}" in concurrency["group"]


def test_who_starts_it_by_hand_may_name_the_recipe() -> None:
    workflow = read_workflow(FEATURES)
    assert workflow["env"] == {"RECIPE": "${{ inputs.lang || 'sample' }}"}
    assert list(workflow["on"]["workflow_dispatch"]["inputs"]) == ["lang"]


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
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    for run in (*runs, SCRIPT.read_text("utf-8")):
        assert "${{" not in run
        bare = re.sub(r'"[^"]*"', "", run).replace("$?", "")
        assert "$" not in bare, f"a variable without quotes: {run}"
        subprocess.run(["bash", "-n"], input=run, text=True, check=True)
