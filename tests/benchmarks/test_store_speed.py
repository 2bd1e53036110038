"""Random reads of sentences from a store, against one h5py data set a sentence, in the same run.

``make bench`` runs this; it prints ratios (minimum, median, maximum of the repeats) and asserts nothing.
"""

import hashlib
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from backattn.store.layout import Entry, Header, encode_lines, transfer_columns
from backattn.store.reader import StoreReader
from backattn.store.writer import write_store

SENTENCES, WIDTH, READS, REPEATS = 2000, 512, 2000, 5


def rate(read: Callable[[bytes], object], keys: list[bytes]) -> float:
    start = time.perf_counter()
    for key in keys:
        read(key)
    return len(keys) / (time.perf_counter() - start)


def test_random_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    entries: dict[bytes, Entry] = {
        hashlib.sha256(str(i).encode()).digest(): {
            "vectors": rng.random((int(rng.integers(5, 40)), WIDTH), np.float32).astype(np.float16),
            "english_tags": encode_lines(("O",)),
        }
        for i in range(SENTENCES)
    }
    header = Header(kind="transfer", recipe_id="1-bench", recipe={}, versions={}, device="cpu")
    write_store(tmp_path / "flat.h5", header, transfer_columns("float16", WIDTH), list(entries), entries, {})
    with h5py.File(tmp_path / "peer.h5", "w") as peer:
        for key, entry in entries.items():
            peer[key.hex()] = entry["vectors"]
    store = StoreReader(tmp_path / "flat.h5")
    order = random.Random(0).choices(list(entries), k=READS)
    ratios = []
    with h5py.File(tmp_path / "peer.h5") as peer:
        for _ in range(REPEATS):
            own = rate(lambda key: store.column("vectors", key).copy(), order)
            other = rate(lambda key: peer[key.hex()][()], order)
            floor = rate(lambda key: entries[key]["vectors"].copy(), order)
            ratios.append((own / other, own / floor))
    with capsys.disabled():
        print(
            f"\nstore, random reads of {READS} sentences (each copied), {REPEATS} repeats: min / median / max"
        )
        for name, column in zip(
            ("a data set per sentence", "arrays in memory"), zip(*ratios, strict=True), strict=True
        ):
            print(f"  x {name}: {min(column):.2f} / {statistics.median(column):.2f} / {max(column):.2f}")
