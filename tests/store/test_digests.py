"""The digest of an array against plain hashlib, and what it notices."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backattn.errors import StoreError
from backattn.store import writer
from backattn.store.digests import plain_digest, tree_digest
from backattn.store.layout import DIGEST_BLOCK, FORMAT_VERSION, READABLE_VERSIONS, Entry
from backattn.store.reader import StoreReader
from store_samples import RUN, make_entries, write

DATA = Path(__file__).parents[1] / "data"
# Around the borders of a block, and of what a thread takes at a time.
SIZES = (0, 1, DIGEST_BLOCK - 1, DIGEST_BLOCK, DIGEST_BLOCK + 1, 17 * DIGEST_BLOCK, 33 * DIGEST_BLOCK + 7)


def oracle(data: bytes) -> str:
    """The definition in plain hashlib, by one thread; the size of a block is part of the format."""
    state = hashlib.sha256()
    for start in range(0, len(data), 1_048_576):
        state.update(hashlib.sha256(data[start : start + 1_048_576]).digest())
    return state.hexdigest()


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threads", [1, 4])
def test_the_digest_is_its_definition_with_any_number_of_threads(size: int, threads: int) -> None:
    data = noise(size)
    with ThreadPoolExecutor(threads) as pool:
        assert tree_digest(np.frombuffer(data, np.uint8), pool) == oracle(data)
        assert plain_digest(np.frombuffer(data, np.uint8)) == hashlib.sha256(data).hexdigest()


def big_entries(rows: list[int]) -> dict[bytes, Entry]:
    """Entries of so many rows; their tags take more than a block too."""
    tags = np.frombuffer(b"O" * 700_001, np.uint8)
    return {key: {**entry, "english_tags": tags} for key, entry in make_entries(rows).items()}


@pytest.mark.parametrize("cores", [1, 2, 16])
@given(rows=st.lists(st.integers(0, 800_000), min_size=1, max_size=4))
@settings(max_examples=6, deadline=None)
def test_a_written_store_has_the_digests_of_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, cores: int, rows: list[int]
) -> None:
    """However the writing is cut, and whoever takes which part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: cores)
        patch.setattr(writer, "_BLOCK_BYTES", 3_000_000)
        patch.setattr(writer, "_SYNC_BYTES", 2_000_000)
        reader = StoreReader(write(tmp_path_factory.mktemp("store") / "a.h5", big_entries(rows)))
        reader.verify()
    assert reader.digests == {name: oracle(reader._raw(name).tobytes()) for name in reader._arrays}


def test_a_flip_in_every_block_is_found(tmp_path: Path) -> None:
    rows = 5 * DIGEST_BLOCK // 6 + 100  # five blocks and some bytes; a row has six
    path = write(tmp_path / "a.h5", make_entries([rows]))
    place, size = StoreReader(path)._arrays["vectors"]["offset"], rows * 6
    with path.open("r+b", buffering=0) as file:
        for start in range(0, size, DIGEST_BLOCK):
            for at in (start, min(start + DIGEST_BLOCK, size) - 1):
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


def test_blocks_that_changed_places_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", make_entries([DIGEST_BLOCK]))  # six blocks
    place = StoreReader(path)._arrays["vectors"]["offset"]
    data = bytearray(path.read_bytes())
    first, second = (slice(place + i * DIGEST_BLOCK, place + (i + 1) * DIGEST_BLOCK) for i in (1, 3))
    data[first], data[second] = data[second], data[first]
    path.write_bytes(data)
    with pytest.raises(StoreError, match="vectors differs from its digest"):
        StoreReader(path).verify()


def test_a_failure_of_the_disk_on_the_way_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux tells of it once: whoever asks first must not swallow it."""
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 1:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(writer, "_SYNC_BYTES", 1000)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError, match=r"a\.h5: cannot be written \(Input/output error\); free space"):
        write(tmp_path / "a.h5", make_entries([1000, 1000]))
    assert len(synced) > 1
    assert not list(tmp_path.iterdir())


def test_a_store_of_format_2_is_verified_by_its_own_rule(tmp_path: Path) -> None:
    old = DATA / "store-format-2.h5"
    reader = StoreReader(old)
    assert reader.attributes["format_version"] == 2
    assert reader.digests == {
        name: hashlib.sha256(reader._raw(name).tobytes()).hexdigest() for name in reader._arrays
    }
    reader.verify()
    # What is written from it is of the present format, and the same numbers.
    new = StoreReader(write(tmp_path / "new.h5", {key: reader[key] for key in reader}))
    new.verify()
    assert new.attributes["format_version"] == FORMAT_VERSION == READABLE_VERSIONS[-1]
    assert all(new._raw(name).tobytes() == reader._raw(name).tobytes() for name in reader._arrays)
    assert RUN.id in new.origins
