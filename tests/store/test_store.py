"""The store against plain numpy."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backattn.common.errors import BusyError, StoreError
from backattn.common.file_lock import writer_lock
from backattn.store.layout import Entry, decode_lines, encode_lines
from backattn.store.reader import Chain, StoreReader
from examples import examples
from store_samples import make_entries, write, write_entries


@given(lengths=st.lists(st.integers(0, 9), max_size=12))
@settings(max_examples=examples(30))
def test_round_trip_is_bit_exact(tmp_path_factory: pytest.TempPathFactory, lengths: list[int]) -> None:
    entries = make_entries(lengths)
    reader = StoreReader(write(tmp_path_factory.mktemp("store") / "a.h5", entries))
    reader.verify()
    assert list(reader) == list(entries)
    assert reader.counts == {"empty": 1}
    assert reader.recipe == {"eos": "drop"}
    for key, entry in entries.items():
        for name, array in entry.items():
            np.testing.assert_array_equal(reader[key][name], array)
            np.testing.assert_array_equal(reader.column(name, key), array)


def test_layout_is_flat_contiguous_and_named_as_documented(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "a.h5", make_entries([2, 5]))) as file:
        assert file["vectors"].shape == (7, 3)
        assert file["vectors"].chunks is None
        assert file["offsets"][()].tolist() == [0, 2, 7]
        assert file["keys"].shape == (2, 32)
        assert file.attrs["complete"] == 1


def test_joining_readers_equals_writing_at_once(tmp_path: Path) -> None:
    first, second = make_entries([3, 0, 4], 1), make_entries([1, 7], 2)
    whole = {**second, **first}
    parts = [StoreReader(write(tmp_path / f"{i}.h5", e)) for i, e in enumerate((first, second))]
    joined = StoreReader(write_entries(tmp_path / "joined.h5", list(whole), Chain(parts)))
    at_once = StoreReader(write_entries(tmp_path / "whole.h5", list(whole), whole))
    assert joined.digests == at_once.digests
    with pytest.raises(KeyError):
        Chain(parts)[b"0" * 32]


def test_an_unwritable_folder_is_one_line_and_keeps_the_old_store(tmp_path: Path) -> None:
    path = tmp_path / "not-a-folder" / "a.h5"
    path.parent.write_text("a file where a folder should be")
    with pytest.raises(StoreError, match=r"a\.h5: cannot be written"):
        write(path, make_entries([2]))


def test_a_failed_write_leaves_the_old_store_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", make_entries([2]))
    before = path.read_bytes()

    class Full(dict[bytes, Entry]):
        def __getitem__(self, key: bytes) -> Entry:
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left on device"):
        write_entries(path, [b"0" * 32], Full())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


@given(st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"), min_size=1)).map(tuple))
def test_lines_come_back(tokens: tuple[str, ...]) -> None:
    assert decode_lines(encode_lines(tokens)) == tokens


def test_lines_refuse_what_would_not_come_back() -> None:
    with pytest.raises(ValueError, match="line break"):
        encode_lines(("a\nb",))


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with writer_lock(lock), pytest.raises(BusyError, match=r"held by process \d+ on "), writer_lock(lock):
        pass
    with writer_lock(lock):
        pass
