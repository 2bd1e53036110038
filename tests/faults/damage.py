"""Every single-bit flip and every truncation of a small store: what notices each?

``PYTHONPATH=tests python -m faults.damage`` prints the table; the tests run the same.

A store this small lies within the frame that is verified on opening. To see what holds for a store of
gigabytes, its arrays are also taken out of the frame, as if they were big.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from backattn.common.errors import StoreError
from backattn.store import writer
from backattn.store.reader import StoreReader
from backattn.store.seal import SEAL_BYTES
from store_samples import make_entries, write

# Who refuses a damaged file: opening it (plain `check`, every reader), `check --deep` (and what builds on a
# store, and training), nobody; or something else is raised than the one-line error.
VERDICTS = ("opening", "deep", "nobody", "crash")


def small_store(folder: Path, *, big_arrays: bool) -> Path:
    """A store of three sentences, one of them empty.

    :param big_arrays: its arrays lie outside of the frame, as those of a big store do.
    """
    before = writer.BIG  # type: ignore[attr-defined]
    writer.BIG = 1 if big_arrays else before  # type: ignore[attr-defined]
    try:
        return write(folder / "store.h5", make_entries([2, 0, 3]))
    finally:
        writer.BIG = before  # type: ignore[attr-defined]


def verdict(path: Path) -> str:
    """Who refuses this file."""
    try:
        reader = StoreReader(path)
    except StoreError:
        return "opening"
    except Exception:
        return "crash"
    try:
        reader.verify()
    except StoreError:
        return "deep"
    except Exception:
        return "crash"
    return "nobody"


def flips(path: Path) -> Iterator[tuple[str, str]]:
    """Each bit of a store flipped alone: part of the file, verdict."""
    data = bytearray(path.read_bytes())
    arrays = array_bytes(path)
    damaged = path.with_name("flipped.h5")
    damaged.write_bytes(data)
    with damaged.open("r+b", buffering=0) as file:
        for place, byte in enumerate(data):
            part = "seal" if place < SEAL_BYTES else "arrays" if place in arrays else "rest"
            for bit in range(8):
                file.seek(place)
                file.write(bytes([byte ^ (1 << bit)]))
                yield part, verdict(damaged)
            file.seek(place)
            file.write(bytes([byte]))


def truncations(path: Path) -> Iterator[str]:
    """A store cut off at each length, from nothing to all but the last byte."""
    damaged = path.with_name("truncated.h5")
    damaged.write_bytes(path.read_bytes())
    for length in reversed(range(len(path.read_bytes()))):
        with damaged.open("r+b") as file:
            file.truncate(length)
        yield verdict(damaged)


def array_bytes(path: Path) -> set[int]:
    """Places of the bytes of vectors, tags and origins."""
    reader = StoreReader(path)
    data = path.read_bytes()
    places: set[int] = set()
    for column in reader.columns:
        raw = reader._data[column.name].tobytes()
        start = data.index(raw)
        places |= set(range(start, start + len(raw)))
    return places


def main() -> None:
    """Print the table."""
    print("| store | damage | tried | refused on opening | by --deep | by nobody | crashes |")
    print("|---|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        for big_arrays in (False, True):
            path = small_store(Path(name), big_arrays=big_arrays)
            label = "arrays outside of the frame (as if big)" if big_arrays else "small"
            counts = Counter(flips(path))
            for part in ("seal", "arrays", "rest"):
                row = [counts[part, v] for v in VERDICTS]
                print(f"| {label} | one bit flipped, {part} | {sum(row)} | {' | '.join(map(str, row))} |")
            cut = Counter(truncations(path))
            row = [cut[v] for v in VERDICTS]
            print(f"| {label} | cut off at every length | {sum(row)} | {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    main()
