"""The fuzzer's own seeds, mutated a little without it: every run of the tests checks what it checks."""

import os
import random
import subprocess
import sys
from pathlib import Path

import fuzz
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_no_seed_breaks_a_property(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a target may go elsewhere
    target, rng = fuzz.TARGETS[name](tmp_path), random.Random(1)
    for seed in target.seeds:
        target.check(seed)
        for _ in range(3):
            data = bytearray(seed)
            for _ in range(rng.randrange(1, 5)):
                data[rng.randrange(len(data))] = rng.choice(b"\0\xff\n\t BIESO-=[]{}\"'.")
            target.check(bytes(data))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, fuzz.__file__, *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_atheris_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "atheris.py").write_text("raise ModuleNotFoundError")
    done = run("corpus", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == 'fuzz.py needs the package atheris: pip install ".[fuzz]"\n'


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_it_runs_for_a_second_and_finds_nothing(name: str) -> None:
    pytest.importorskip("atheris")
    done = run(name, "--seconds", "1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done " in done.stderr
