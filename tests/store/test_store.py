"""The store against plain numpy, and against damage."""

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backattn.errors import BusyError, StoreError
from backattn.store.layout import Column, Entry, Header, decode_lines, encode_lines
from backattn.store.lock import writer_lock
from backattn.store.reader import Chain, StoreReader
from backattn.store.writer import write_store

COLUMNS = (Column("vectors", "float16", 3), Column("english_tags", "uint8"))
HEADER = Header(kind="transfer", recipe_id="1-ab", recipe={"eos": "drop"}, versions={}, device="cpu")


def make_entries(lengths: list[int], seed: int = 0) -> dict[bytes, Entry]:
    rng = np.random.default_rng(seed)
    return {
        hashlib.sha256(f"{seed}-{i}".encode()).digest(): {
            "vectors": rng.normal(size=(m, 3)).astype(np.float16),
            "english_tags": encode_lines(("O",) * (m % 3)),
        }
        for i, m in enumerate(lengths)
    }


def write(path: Path, entries: dict[bytes, Entry]) -> Path:
    write_store(path, HEADER, COLUMNS, list(entries), entries, {"empty": 1})
    return path


@given(lengths=st.lists(st.integers(0, 9), max_size=12))
@settings(max_examples=30, deadline=None)
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
    write_store(tmp_path / "joined.h5", HEADER, COLUMNS, list(whole), Chain(parts), {})
    write_store(tmp_path / "whole.h5", HEADER, COLUMNS, list(whole), whole, {})
    joined, at_once = StoreReader(tmp_path / "joined.h5"), StoreReader(tmp_path / "whole.h5")
    assert joined.attributes["digests"] == at_once.attributes["digests"]
    with pytest.raises(KeyError):
        Chain(parts)[b"0" * 32]


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "a.h5", make_entries([2, 3])).read_bytes()
    damaged = tmp_path / "b.h5"
    for length in range(0, len(data), 97):
        damaged.write_bytes(data[:length])
        with pytest.raises(StoreError, match=r"b\.h5.*`backattn features` makes it anew"):
            StoreReader(damaged).verify()


def test_every_flipped_byte_of_the_payload_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", make_entries([4, 6]))
    data = path.read_bytes()
    with h5py.File(path) as file:
        places = [
            file[name].id.get_offset() + i
            for name in ("vectors", "keys", "offsets", "english_tags", "english_tags_offsets")
            for i in range(file[name].nbytes)
        ]
    damaged = tmp_path / "b.h5"
    for place in places:
        damaged.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises(StoreError):
            StoreReader(damaged).verify()


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("complete", 0, "not complete"),
        ("format_version", 99, "format version 99, this backattn reads 1"),
        ("recipe_id", "other", "attributes differ from their digest"),
        ("sentences", 10**15, "attributes differ from their digest"),
    ],
)
def test_edited_attributes_are_refused(tmp_path: Path, attribute: str, value: object, message: str) -> None:
    path = write(tmp_path / "a.h5", make_entries([2]))
    with h5py.File(path, "r+") as file:
        file.attrs[attribute] = value
    with pytest.raises(StoreError, match=message):
        StoreReader(path)


def test_a_link_out_of_the_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", make_entries([2]))
    with h5py.File(path, "r+") as file:
        del file["vectors"]
        file["vectors"] = h5py.ExternalLink("/etc/hostname", "/")
    with pytest.raises(StoreError, match="vectors is missing or a link out of the file"):
        StoreReader(path)


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
        write_store(path, HEADER, COLUMNS, [b"0" * 32], Full(), {})
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
