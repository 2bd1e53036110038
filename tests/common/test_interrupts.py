"""Tests of Ctrl-C while a library written in C works."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from backattn.common.interrupts import interrupts_held, interrupts_to
from backattn.models.transformers_loader import _read_safetensors
from backattn.tagger.checkpoint_io import read_tensors


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_the_block_ends_first() -> None:
    done = []

    def work() -> None:
        with interrupts_held():
            press()
            press()
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done


def test_it_goes_before_another_error() -> None:
    def work() -> None:
        with interrupts_held():
            press()
            raise ValueError("what a library makes of it")

    with pytest.raises(KeyboardInterrupt):
        work()


def test_without_one_nothing_changes() -> None:
    with pytest.raises(ValueError, match="damaged"), interrupts_held():
        raise ValueError("damaged")
    with pytest.raises(KeyboardInterrupt):
        press()


def test_a_handler_of_the_program_stays() -> None:
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append("own"))
    with interrupts_to(lambda: seen.append("ours")):
        press()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen == ["own"]


def test_other_threads_need_none() -> None:
    found: list[object] = []

    def work() -> None:
        with interrupts_held():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


@pytest.mark.parametrize("read", [read_tensors, _read_safetensors])
@pytest.mark.parametrize("moment", range(1, 5))
def test_a_file_that_is_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], Any], moment: int
) -> None:
    """Each moment at which reading two tensors runs code of Python; torch loses two of the four."""
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"a": torch.randn(3, 4), "b": torch.ones(5)}, path)
    original, moments = torch.UntypedStorage.__getitem__, []

    def get(storage: torch.UntypedStorage, place: Any) -> Any:
        moments.append(place)
        if len(moments) == moment:
            press()
        return original(storage, place)

    monkeypatch.setattr(torch.UntypedStorage, "__getitem__", get)
    with pytest.raises(KeyboardInterrupt):
        read(path)
    assert len(moments) >= moment
