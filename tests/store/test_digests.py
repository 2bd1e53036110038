"""The digest of an array against xxhash and published values, and what it notices."""

import os
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from backattn.common.errors import StoreError
from backattn.store import writer
from backattn.store.digests import array_digest, new_digest
from backattn.store.layout import Entry
from backattn.store.reader import StoreReader
from examples import examples
from store_samples import make_entries, write

BLOCK = 1 << 20
# The last two are around the border of the blocks that are hashed at a time.
SIZES = (0, 1, BLOCK, 16 * BLOCK, 16 * BLOCK + 7)


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_the_digest_is_xxh3_of_128_bits(size: int) -> None:
    data = noise(size)
    assert array_digest(np.frombuffer(data, np.uint8)) == xxhash.xxh3_128_hexdigest(data)


def test_the_digest_is_the_one_that_xxhash_publishes() -> None:
    """The value of the empty input in xxHash's own tests: seed 0, written as a number of 128 bits."""
    assert array_digest(np.zeros(0, np.uint8)) == "99aa06d3014798d86001c324468d497f"


@given(cuts=st.lists(st.integers(0, 50_000), max_size=5), seed=st.integers(0, 9))
@settings(max_examples=examples(30))
def test_the_digest_does_not_depend_on_where_the_array_is_cut(cuts: list[int], seed: int) -> None:
    data = np.frombuffer(noise(50_000, seed), np.float16)
    digest = new_digest()
    for part in np.split(data, sorted(cut // 2 for cut in cuts)):
        digest.update(part)
    assert digest.hexdigest() == array_digest(data.view(np.uint8))


def big_entries(rows: list[int]) -> dict[bytes, Entry]:
    """Entries of so many rows; their tags take more than a block too."""
    tags = np.frombuffer(b"O" * 700_001, np.uint8)
    return {key: {**entry, "english_tags": tags} for key, entry in make_entries(rows).items()}


@given(rows=st.lists(st.integers(0, 800_000), min_size=1, max_size=4))
@settings(max_examples=examples(15))
def test_a_written_store_has_the_digests_of_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int]
) -> None:
    """However the writing is cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_BLOCK_BYTES", 3_000_000)
        patch.setattr(writer, "_AHEAD_BYTES", 2_000_000)
        reader = StoreReader(write(tmp_path_factory.mktemp("store") / "a.h5", big_entries(rows)))
        reader.verify()
    assert reader.digests == {
        name: xxhash.xxh3_128_hexdigest(reader._raw(name).tobytes()) for name in reader._arrays
    }


def test_a_flip_anywhere_in_a_big_array_is_found(tmp_path: Path) -> None:
    rows = 5 * BLOCK // 6 + 100  # a row has six bytes
    path = write(tmp_path / "a.h5", make_entries([rows]))
    place, size = StoreReader(path)._arrays["vectors"]["offset"], rows * 6
    with path.open("r+b", buffering=0) as file:
        for start in range(0, size, BLOCK):
            for at in (start, min(start + BLOCK, size) - 1):
                file.seek(place + at)
                (byte,) = file.read(1)
                file.seek(place + at)
                file.write(bytes([byte ^ 1]))
                with pytest.raises(
                    StoreError, match="vectors differs from its digest; delete it, then `back"
                ):
                    StoreReader(path).verify()
                file.seek(place + at)
                file.write(bytes([byte]))
    StoreReader(path).verify()


def test_parts_that_changed_places_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", make_entries([BLOCK]))
    place = StoreReader(path)._arrays["vectors"]["offset"]
    data = bytearray(path.read_bytes())
    first, second = (slice(place + i * BLOCK, place + (i + 1) * BLOCK) for i in (1, 3))
    data[first], data[second] = data[second], data[first]
    path.write_bytes(data)
    with pytest.raises(StoreError, match="vectors differs from its digest"):
        StoreReader(path).verify()


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failure_of_the_disk_on_the_way_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Linux tells of it once: whoever asks first must not swallow it."""
    asked = []

    def fsync(descriptor: int) -> None:
        asked.append(descriptor)
        if len(asked) == failing:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError, match=r"a\.h5: cannot be written \(Input/output error\); free space"):
        write(tmp_path / "a.h5", make_entries([1000, 1000]))
    assert len(asked) == failing
    assert not list(tmp_path.iterdir())


def test_the_disk_is_asked_while_the_file_that_was_written_is_still_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is opened later need not be told of what failed before."""

    def fsync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError, match="Input/output error"):
        write(tmp_path / "a.h5", make_entries([1000]))
