"""The store: writing against a plain file, random reads against h5py's ways to hold ragged arrays."""

import hashlib
import itertools
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from backattn.store.digests import array_digest
from backattn.store.layout import Entry, Header, Origin, encode_lines, transfer_columns
from backattn.store.reader import StoreReader
from backattn.store.writer import write_store
from benchmarks.measure import Row, compare

SENTENCES, WIDTH, READS = 6000, 512, 6000
COLUMNS = transfer_columns("float16", WIDTH)
RUN = Origin(started="2026-01-01", device="cpu", versions={}, commit="", opened="bench")
HEADER = Header(
    kind="transfer", recipe_id="bench", recipe={}, corpora={}, models={}, versions={}, device="cpu", commit=""
)
_NOTE = f"{SENTENCES} sentences, d = {WIDTH}, float16, warm"


def rows(repeats: int) -> Iterator[Row]:
    """Writing, then two peers of reading."""
    rng = np.random.default_rng(0)
    entries: dict[bytes, Entry] = {
        hashlib.sha256(str(i).encode()).digest(): {
            "vectors": rng.random((int(rng.integers(5, 30)), WIDTH), np.float32).astype(np.float16),
            "english_tags": encode_lines(("O",) * 20),
            "origin": np.frombuffer(bytes.fromhex(RUN.id), np.uint8),
        }
        for i in range(SENTENCES)
    }
    keys = list(entries)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield _writing(folder, entries, keys, repeats)
        yield from _reading(folder, entries, keys, repeats)


def _writing(folder: Path, entries: dict[bytes, Entry], keys: list[bytes], repeats: int) -> Row:
    blob = b"".join(entries[key]["vectors"].tobytes() for key in keys)
    # A new file each time: to free an old one's pages takes as long as a third of the writing.
    numbers = itertools.count()

    def ours() -> float:
        path = folder / f"{next(numbers)}.h5"
        write_store(path, HEADER, COLUMNS, keys, entries, counts={}, origins={RUN.id: RUN})
        return len(blob) / 1e6

    def peer() -> float:
        with (folder / f"{next(numbers)}.blob").open("wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        return len(blob) / 1e6

    def floor() -> float:
        array_digest(np.frombuffer(blob, np.uint8))
        return peer()

    return compare(
        part="store, writing", peer_name="write() of the same bytes and fsync", unit="MB", ours=ours,
        peer=peer, repeats=repeats, must=0.8, aim=0.95, floor=floor,
        floor_name="write() and fsync, and the digest", note=_NOTE,
    )  # fmt: skip


def _reading(folder: Path, entries: dict[bytes, Entry], keys: list[bytes], repeats: int) -> Iterator[Row]:
    with h5py.File(folder / "single", "w") as single:
        for key in keys:
            single[key.hex()] = entries[key]["vectors"]
    lengths = [len(entries[key]["vectors"]) for key in keys]
    borders = np.concatenate([[0], np.cumsum(lengths)])
    position = {key: i for i, key in enumerate(keys)}
    files = {path.suffix: path for path in folder.iterdir()}
    store = StoreReader(files[".h5"])
    order = random.Random(0).choices(keys, k=READS)
    whole = np.concatenate([entries[key]["vectors"] for key in keys])
    mapped = np.memmap(files[".blob"], np.float16, "r", shape=whole.shape)

    def ours() -> float:
        for key in order:
            store.column("vectors", key).copy()
        return READS

    def memory_map() -> float:
        for key in order:
            i = position[key]
            mapped[borders[i] : borders[i + 1]].copy()
        return READS

    with h5py.File(folder / "single") as single, h5py.File(files[".h5"]) as flat:
        vectors = flat["vectors"]

        def one_dataset_each() -> float:
            for key in order:
                single[key.hex()][()]
            return READS

        def flat_h5py() -> float:
            for key in order:
                i = position[key]
                vectors[borders[i] : borders[i + 1]]
            return READS

        for peer, name, must in (
            (one_dataset_each, "a data set per sentence in h5py", 15.0),
            (flat_h5py, "flat h5py", 3.0),
        ):
            yield compare(
                part="store, random sentence reads (copied)", peer_name=name, unit="sentences",
                ours=ours, peer=peer, repeats=repeats, must=must, floor=memory_map,
                floor_name="a memory map", note=_NOTE,
            )  # fmt: skip
