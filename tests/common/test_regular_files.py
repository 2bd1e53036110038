"""Pipes, devices and the kernel's own files in the place of a file that is read: one line, at once.

Each is followed by way of a link, as a received folder may hold it.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest

from backattn.common.digests import file_digest
from backattn.common.errors import BackattnError
from backattn.common.json_files import read_table
from backattn.common.regular_files import open_regular, read_regular
from backattn.common.text_lines import text_lines
from backattn.corpus.formats import parse_column_file
from backattn.corpus.input_text import InputForm, open_input, read_tokens
from backattn.embeddings.fasttext import FastText
from backattn.features.word_alignment_io import read_linked_pairs
from backattn.recipe import AlignmentRecipe, ColumnFormat, load_recipe
from backattn.report.runs import find_runs
from backattn.store.reader import StoreReader
from backattn.translation.sentencepieces import SentencePieceModel
from backattn.translation.tokenisation import BpeCodes
from bounds import bounded

# Regular files by their kind, of size 0. The first goes on for a quarter of a terabyte, the second is memory.
KERNEL = [path for path in ("/proc/self/pagemap", "/proc/self/mem", "/proc/kmsg") if os.path.exists(path)]
READERS: dict[str, Callable[[Path], object]] = {
    "corpus": lambda path: parse_column_file(path, ColumnFormat()),
    "text": lambda path: list(text_lines(path, "mend it")),
    "links": lambda path: read_linked_pairs(AlignmentRecipe(path=str(path)), "alignment"),
    "vectors": FastText,
    "pieces": SentencePieceModel.load,
    "bpe": lambda path: BpeCodes.load(path, "de"),
    "json": lambda path: read_table(path, "mend it"),
    "store": StoreReader,
    "recipe": lambda path: load_recipe(str(path)),
    "runs": lambda path: find_runs(path.parent.parent.parent.parent, "es"),
}


def answer(read: Callable[[Path], object], path: Path) -> None:
    """One line, or nothing where a file is empty."""
    try:
        with bounded():
            assert read(path) == []
    except BackattnError as error:
        assert str(error).isprintable()  # noqa: PT017
        assert str(path.parent) in str(error)  # noqa: PT017


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a reader looks; the name fits all of them."""
    folder = tmp_path / "es" / "runs" / "run"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(params=["fifo", "socket", "folder", "/dev/zero", "/dev/tty", *KERNEL])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "odd"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif request.param == "folder":
        path.mkdir()
    else:
        return Path(request.param)
    return path


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_answers_at_once(reader: str, odd: Path, place: Path) -> None:
    names = {"recipe": "x.toml", "text": "x.gz", "runs": "run.json"}
    path = place / names.get(reader, "x")
    path.symlink_to(odd)
    answer(READERS[reader], path)


def test_a_digest_of_them_is_taken_at_once(odd: Path) -> None:
    with bounded():
        try:
            assert file_digest(odd) == file_digest_of_nothing()
        except OSError as error:
            assert error.strerror in ("not a regular file", "Is a directory", "Operation not permitted")  # noqa: PT017


def file_digest_of_nothing() -> str:
    return "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_what_takes_a_files_place_between_look_and_open_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, pipe = tmp_path / "whole", tmp_path / "pipe"
    whole.write_bytes(b"x")
    os.mkfifo(pipe)
    looked = os.stat(whole)
    monkeypatch.setattr(os, "stat", lambda path: looked)
    with bounded(), pytest.raises(OSError, match="not a regular file"):
        open_regular(pipe)


@pytest.mark.parametrize("reader", sorted({*READERS} - {"recipe"}))
def test_a_file_that_was_never_written_is_not_read(reader: str, place: Path) -> None:
    """A terabyte of zeros that takes four kilobytes, in an archive as on the disk."""
    path = place / "run.json"
    path.write_bytes(b"1 1\n")
    os.truncate(path, 1 << 40)
    with suppress(OSError):  # of which the command line makes its line
        answer(READERS[reader], path)
    with bounded(), pytest.raises(OSError, match=r"1,099,511,627,776 bytes, of which only \S+ were written"):
        file_digest(path)


def test_one_with_holes_is_read(tmp_path: Path) -> None:
    """`cp --sparse` and `rsync --sparse` make some of zeros, as a store of T may have many."""
    path = tmp_path / "store"
    with path.open("wb") as file:
        for start in range(0, 1200 << 20, 10 << 20):
            file.seek(start)
            file.write(b"1" * (1 << 20))
    with open_regular(path) as opened:
        assert opened.read(2) == b"11"


def test_a_corpus_has_an_end(place: Path) -> None:
    path = place / "huge"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)
        file.write(b"x" * (80 << 20))
    with bounded(), pytest.raises(BackattnError) as caught:
        parse_column_file(path, ColumnFormat())
    assert "cannot be read (1,073,741,825 bytes, expected at most 1,073,741,824)" in str(caught.value)


def test_files_are_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in (b"", b"\0", os.urandom(1 << 20)):
        path.write_bytes(content)
        assert read_regular(path) == content
        with open_regular(path) as file:
            assert (file.readline() + file.read(), file.seek(0, os.SEEK_END)) == (content, len(content))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), Path(KERNEL[0])):
        for _ in range(3):
            try:
                open_regular(path).close()
            except OSError:
                continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_shard_that_is_a_pipe_is_no_shard(tmp_path: Path) -> None:
    """What a stage finds among its shards, it opens."""
    os.mkfifo(tmp_path / "0.h5")
    answer(StoreReader, tmp_path / "0.h5")


def tokens(source: BinaryIO, name: str) -> list[tuple[str, ...]]:
    documents = read_tokens(source, InputForm(name, "word", ColumnFormat(), ()))
    return [sentence.tokens for document in documents for sentence in document.sentences]


def test_text_to_tag_that_never_ends_a_line_is_refused() -> None:
    with open("/dev/zero", "rb") as zeros, bounded(), pytest.raises(BackattnError) as caught:
        tokens(zeros, "zero")
    assert "zero:1: a line of more than 4,194,304 bytes; expected text" in str(caught.value)


def test_text_to_tag_may_come_through_a_pipe(tmp_path: Path) -> None:
    """`backattn tag RUN <(command)` is no attack: a pipe that a user names is waited for."""
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        time.sleep(0.1)
        (tmp_path / "pipe").write_text("a b\n", "utf-8")

    writer = threading.Thread(target=write)
    writer.start()
    with open_input(tmp_path / "pipe") as text:
        assert tokens(text, "pipe") == [("a", "b")]
    writer.join()
