"""Small stores for tests, with every attribute filled."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from backattn.store.layout import Entry, Header, Origin, encode_lines, transfer_columns
from backattn.store.writer import write_store

COLUMNS = transfer_columns("float16", 3)
HEADER = Header(
    kind="transfer",
    recipe_id="1-ab",
    recipe={"eos": "drop"},
    corpora={"train": {"file": "a", "sha256": "00", "sentences": 1}},
    models={"tagger": "11"},
    versions={"python": "3"},
    device="cpu",
    commit="22",
)
RUN = Origin(started="2026-01-01", device="cpu", versions={"python": "3"}, commit="22", opened="as data")


def make_entries(lengths: list[int], seed: int = 0) -> dict[bytes, Entry]:
    rng = np.random.default_rng(seed)
    return {
        hashlib.sha256(f"{seed}-{i}".encode()).digest(): {
            "vectors": rng.normal(size=(m, 3)).astype(np.float16),
            "english_tags": encode_lines(("O",) * (m % 3)),
            "origin": np.frombuffer(bytes.fromhex(RUN.id), np.uint8),
        }
        for i, m in enumerate(lengths)
    }


def write(path: Path, entries: dict[bytes, Entry]) -> Path:
    return write_entries(path, list(entries), entries)


def write_entries(path: Path, keys: list[bytes], entries: Mapping[bytes, Entry]) -> Path:
    write_store(path, HEADER, COLUMNS, keys, entries, counts={"empty": 1}, origins={RUN.id: RUN})
    return path
