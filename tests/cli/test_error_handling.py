"""What the environment refuses, as one line on standard error."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click
import pytest

from backattn.cli.error_handling import ErrorHandlingGroup

PROGRAM = """
import resource, sys
import click, torch
from backattn.cli.error_handling import ErrorHandlingGroup

@click.group(cls=ErrorHandlingGroup)
def main():
    pass

@main.command()
@click.argument("path")
@click.argument("limit", type=int)
def save(path, limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    torch.save({"weights": torch.zeros(10_000)}, path)

main()
"""


@pytest.mark.parametrize(("path", "limit"), [("/dev/full", 9_000), ("model.pt", 1), ("model.pt", 9_000)])
def test_a_model_that_the_disk_refuses(tmp_path: Path, path: str, limit: int) -> None:
    """torch's error for it is a RuntimeError without a file or a cause, another one in each case."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "save", path, str(limit)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2,
        "backattn: a file could not be written (a full disk, or a limit on its size); mend that, then run "
        "the same command again: it goes on from what is finished\n",
    )


def test_the_status_is_kept_where_no_error_can_be_told(tmp_path: Path) -> None:
    """With buffered streams, as outside of a test: Python itself ends with 120 where it cannot flush."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "backattn", "check", "nobody"],
            cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=full, check=False,
        )  # fmt: skip
    assert done.returncode == 2


@click.group(cls=ErrorHandlingGroup)
def group() -> None:
    """Something to interrupt."""


@group.command()
def work() -> None:
    click.echo("done")


class PressAtLine:
    """Raises KeyboardInterrupt before the so-manyth line that click's own code runs."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> "PressAtLine | None":
        if frame.f_code.co_filename != click.core.__file__:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def test_ctrl_c_between_any_two_lines_of_click_ends_as_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Click itself says "Aborted!" and ends with status 1, as does a command that found something wrong."""
    for number in itertools.count(1):
        press = PressAtLine(number)
        sys.settrace(press)
        try:
            with pytest.raises(SystemExit) as ended:
                group.main(["work"], prog_name="toy")
        finally:
            sys.settrace(None)
        out, err = capsys.readouterr()
        if press.left > 0:
            break
        assert (ended.value.code, err.strip()) == (
            130, "backattn: stopped; run the same command again: it goes on from what is finished",
        ), number  # fmt: skip
    assert (ended.value.code, out, err) == (0, "done\n", "")
    assert number > 50
