"""What is not the store that was written is refused: damaged by chance, or made to harm."""

import json
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backattn.common.errors import MissingError, StoreError
from backattn.store import provenance, seal
from backattn.store.reader import StoreReader
from backattn.store.seal import SEAL_BYTES, BrokenSeal, Extent, Seal, check_seal, write_seal
from faults.damage import flips, small_store, truncations
from store_samples import make_entries, write

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("big_arrays", [False, True])
def test_every_single_bit_flip_is_refused(tmp_path: Path, big_arrays: bool) -> None:
    path = small_store(tmp_path, big_arrays=big_arrays)
    counts = Counter(flips(path))
    assert sum(counts.values()) == 8 * path.stat().st_size
    assert {verdict for _, verdict in counts} <= {"opening", "deep"}
    # Only what is too big to be read on opening waits for `check --deep`.
    assert {part for part, verdict in counts if verdict == "deep"} == ({"arrays"} if big_arrays else set())


def test_every_truncation_is_refused_on_opening(tmp_path: Path) -> None:
    path = small_store(tmp_path, big_arrays=True)
    assert Counter(truncations(path)) == {"opening": path.stat().st_size}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("sample"), big_arrays=True)


EDITS = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(0, 40), st.binary(max_size=40)), min_size=1, max_size=6
)


@given(edits=EDITS, sealed=st.booleans())
@settings(max_examples=300)
def test_any_edit_is_refused_or_changes_no_number(
    sample: Path, edits: list[tuple[int, int, bytes]], sealed: bool
) -> None:
    """Bytes replaced, taken out and put in; half of the files are sealed again, as an attacker would."""
    before = sample.read_bytes()
    data = bytearray(before)
    for place, length, replacement in edits:
        data[place : place + length] = replacement
    path = sample.with_name("edited.h5")
    path.write_bytes(data)
    refusal = ""
    try:
        if sealed:
            write_seal(path, index_of(sample)[1].index, [])
        reader = StoreReader(path)
        reader.verify()
    except (StoreError, BrokenSeal) as error:
        refusal = str(error)
    assert refusal.isprintable()
    assert bool(refusal) == (data != before) or sealed
    if refusal:
        return
    for key, entry in make_entries([2, 0, 3]).items():
        for name, array in entry.items():
            np.testing.assert_array_equal(reader[key][name], array)


def test_bytes_behind_the_end_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", make_entries([2]))
    with path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(StoreError, match=r"a\.h5: \d+ bytes, \d+ were written; delete it, then `backattn"):
        StoreReader(path)


@pytest.mark.parametrize("version", [0, 2, 3, 4, 99])
def test_a_store_of_another_format_is_refused_with_what_rebuilds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """By its first bytes alone: a gigabyte behind them is never read."""
    path, size = tmp_path / "a.h5", 1 << 30
    with monkeypatch.context() as other:
        other.setattr(seal, "FORMAT_VERSION", version)
        path.write_bytes(Seal(size, (512, 1), (), "").to_bytes())
    with path.open("r+b") as file:
        file.truncate(size)
    expected = rf"a\.h5: format version {version}, expected 1; delete it, then `backattn features` makes it"
    with pytest.raises(StoreError, match=expected):
        StoreReader(path)


def test_an_hdf5_file_without_a_seal_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["vectors"] = np.zeros((2, 3), "float16")
    with pytest.raises(StoreError, match="an HDF5 file that is not a store of backattn; delete it, then `b"):
        StoreReader(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"\0" * 4096, "not complete: its writer was stopped"),
        (b"backattn", "not a store of backattn"),
        (b"#!/bin/sh\n" * 100, "not a store of backattn"),
        (b"backattn store\n{}".ljust(SEAL_BYTES), "a damaged seal"),
        (b"backattn store\n" + b"[" * 600, "a damaged seal"),
        (
            b'backattn store\n{"bytes":1e999,"big":[],"format":1,"frame":"","index":[1,1]}'.ljust(512),
            "a damaged seal",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=message):
        StoreReader(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no\.h5: no such store; `backattn features` makes it"):
        StoreReader(tmp_path / "no.h5")
    with pytest.raises(StoreError, match="IsADirectoryError"):
        StoreReader(tmp_path)
    with pytest.raises(StoreError, match="not a regular file"):
        StoreReader(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Seal(2000, (512, 1), ((600, 100), (650, 10)), ""), "a seal whose arrays overlap"),
        (Seal(2000, (512, 1), ((600, -5),), ""), "a seal whose arrays overlap"),
        (Seal(2000, (512, 1), ((600, 10**12),), ""), "a seal whose arrays leave the file"),
        (Seal(2000, (512, 1), (), "00"), "its keys, offsets or attributes differ from their digest"),
    ],
)
def test_crafted_seals_are_refused(tmp_path: Path, made: Seal, message: str) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(made.to_bytes().ljust(2000, b"x"))
    with pytest.raises(StoreError, match=message):
        StoreReader(path)


def test_a_frame_too_large_for_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path, size = tmp_path / "a.h5", 1 << 30
    with path.open("wb") as file:
        file.write(Seal(size, (512, 1), (), "").to_bytes())
        file.truncate(size)  # a gigabyte of nothing
    with pytest.raises(StoreError, match="keys and offsets of more than 512 MiB"):
        StoreReader(path)


# An attacker seals what he crafts: below, everything is done to get past the seal and the digests.


def index_of(path: Path) -> tuple[dict[str, Any], Seal]:
    with path.open("rb") as file:
        made, text = check_seal(file)
    return json.loads(text), made


def crafted(path: Path, change: Callable[[dict[str, Any]], None], big: tuple[Extent, ...] = ()) -> Path:
    """A well-sealed store whose index was changed."""
    index, _ = index_of(path)
    change(index)
    text = json.dumps(index).encode()
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(text)
    write_seal(path, (size, len(text)), big)
    return path


def attribute(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda index: index["attributes"].update({name: value})


def array(name: str, **claims: object) -> Callable[[dict[str, Any]], None]:
    return lambda index: index["arrays"][name].update(claims)


OTHERS = [["english_tags", "uint8", 0], ["origin", "uint8", 0]]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def claim_a_billion(index: dict[str, Any]) -> None:
    index["attributes"]["sentences"] = 10**9
    index["arrays"]["keys"]["shape"] = [10**9, 32]


def origin(**values: object) -> Callable[[dict[str, Any]], None]:
    def change(index: dict[str, Any]) -> None:
        (name,) = index["attributes"]["origins"]
        index["attributes"]["origins"][name].update(values)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (attribute("sentences", 10**15), "keys is uint8 .*expected"),
        (attribute("sentences", -1), "keys is uint8 .*expected"),
        (attribute("sentences", 3.0), "attribute sentences is not of type int"),
        (attribute("sentences", True), "attribute sentences is not of type int"),
        (attribute("recipe", "{}"), "attribute recipe is not of type dict"),
        (attribute("recipe", {"a": nested(100)}), "attributes nested too deep"),
        (attribute("recipe", {"a": nested(900)}), "attributes nested too deep|RecursionError"),
        (attribute("counts", {"empty": "1"}), "attribute counts holds more than numbers"),
        (attribute("corpora", {"train": {"file": "a"}}), "attribute corpora is of another form"),
        (attribute("columns", []), "its arrays are not those of its columns"),
        (attribute("columns", [["vectors", "object", 3]]), "its arrays are not those of its columns"),
        (attribute("columns", [["vectors"]]), "not readable"),
        (attribute("columns", [["vectors", "float16", 3], *OTHERS, ["extra", "uint8", 0]]), "its arrays are"),
        (attribute("columns", [["vectors", "object", 3], *OTHERS]), "vectors is float16"),
        (attribute("origins", {"ab": 1}), "not readable"),
        (attribute("origins", {}), "sentences of an origin that it does not name"),
        (attribute("d", 2**62), "d is not the width of its columns"),
        (attribute("unknown", 1), r"attributes \['unknown'\] missing or unknown"),
        (lambda index: index["attributes"].pop("device"), r"attributes \['device'\] missing or unknown"),
        (lambda index: index.pop("arrays"), "not readable"),
        (lambda index: index["arrays"].pop("keys"), "its arrays are not those of its columns"),
        (origin(tokens=10**400), "an origin differs from its name, or is of another form"),
        (origin(seconds=[]), "an origin differs from its name, or is of another form"),
        (origin(versions=3), "an origin differs from its name"),
        (origin(device="cpu2"), "an origin differs from its name"),
        (array("vectors", shape=[10**12, 3]), "vectors is float16"),
        (array("vectors", shape=[-5, -3]), "vectors is float16"),
        (array("vectors", offset=10**15), "vectors claims 30 bytes, the file has"),
        (array("vectors", offset=-8), "vectors claims 30 bytes, the file has"),
        (array("vectors", offset=2.5), "not readable"),
        (array("vectors", offset=None), "not readable"),
        (array("vectors", offset=0), "vectors differs from its digest"),
        (array("vectors", dtype="object"), "vectors is object"),
        (array("keys", offset=0), "keys is outside of what is verified on opening"),
        (claim_a_billion, "keys claims 32000000000 bytes"),
    ],
)  # fmt: skip
def test_crafted_indices_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = crafted(write(tmp_path / "a.h5", make_entries([2, 0, 3])), change)
    with pytest.raises(StoreError, match=message) as refusal:
        StoreReader(path).verify()
    assert str(refusal.value).isprintable()


def test_what_is_read_into_memory_must_be_verified(tmp_path: Path) -> None:
    """Keys declared as a big array would be taken into memory whole, and unverified."""
    path = write(tmp_path / "a.h5", make_entries([2, 0, 3]))
    keys = index_of(path)[0]["arrays"]["keys"]
    with pytest.raises(StoreError, match="keys is outside of what is verified on opening"):
        StoreReader(crafted(path, lambda index: None, big=((keys["offset"], 96),)))


def test_an_index_too_large_for_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", make_entries([2]))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size + (1 << 25))
    write_seal(path, (size, 1 << 25), [])
    with pytest.raises(StoreError, match="a seal whose index leaves the frame"):
        StoreReader(path)


def external(file: h5py.File) -> None:
    file.create_dataset("vectors", (5, 3), "float16", external=[("/etc/passwd", 0, 30)])


def external_link(file: h5py.File) -> None:
    file["vectors"] = h5py.ExternalLink("/etc/passwd", "/")


def huge(file: h5py.File) -> None:
    file.create_dataset("vectors", shape=(10**12, 3), dtype="float16")


def compressed(file: h5py.File) -> None:
    file.create_dataset("vectors", data=np.zeros((10**6, 3), "float16"), compression="gzip")


def foreign_filter(file: h5py.File) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((5, 3))
    properties.set_filter(305, h5py.h5z.FLAG_OPTIONAL, ())  # a number that asks HDF5 for a plugin
    space, kind = h5py.h5s.create_simple((5, 3)), h5py.h5t.IEEE_F16LE
    h5py.h5d.create(file.id, b"vectors", kind, space, properties)


def recursive_group(file: h5py.File) -> None:
    file.create_group("vectors")["vectors"] = file["/"]


def soft_link_to_itself(file: h5py.File) -> None:
    file["vectors"] = h5py.SoftLink("/vectors")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((5, 3), "float16")
    layout[:] = h5py.VirtualSource("/etc/passwd", "vectors", (5, 3))
    file.create_virtual_dataset("vectors", layout)


def huge_fill(file: h5py.File) -> None:
    file.create_dataset("vectors", (10**12, 3), "float16", chunks=(2**20, 3), fillvalue=7)


def texts_of_any_length(file: h5py.File) -> None:
    file.create_dataset("vectors", data=["Ana" * 1000] * 5, dtype=h5py.string_dtype())


def references(file: h5py.File) -> None:
    file.create_dataset("vectors", data=[file["keys"].ref, file.ref], dtype=h5py.ref_dtype)


TRAPS = [
    external, external_link, huge, compressed, foreign_filter, recursive_group, soft_link_to_itself, virtual,
    huge_fill, texts_of_any_length, references,
]  # fmt: skip


@pytest.mark.parametrize("change", TRAPS)
def test_traps_for_the_hdf5_library_are_never_stepped_on(
    tmp_path: Path, change: Callable[[h5py.File], None]
) -> None:
    """The reader follows no link and runs no filter: it gives the numbers that were digested, or refuses."""
    path = write(tmp_path / "a.h5", make_entries([2, 0, 3]))
    _, made = index_of(path)
    with h5py.File(path, "r+") as file:
        del file["vectors"]
        change(file)
    write_seal(path, made.index, [])
    try:
        reader = StoreReader(path)
        reader.verify()
    except StoreError:
        return
    for key, entry in make_entries([2, 0, 3]).items():
        np.testing.assert_array_equal(reader[key]["vectors"], entry["vectors"])


def test_files_of_the_hdf5_library_are_refused_without_it(tmp_path: Path) -> None:
    """Made anew, they have no seal. The library, which would load a filter from HDF5_PLUGIN_PATH, is not even
    imported."""
    for change in TRAPS:
        with h5py.File(tmp_path / f"{change.__name__}.h5", "w") as file:
            file.create_dataset("keys", data=np.zeros((3, 32), "uint8"))
            change(file)
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from backattn.common.errors import StoreError\n"
        "from backattn.store.reader import StoreReader\n"
        "for path in sys.argv[1:]:\n"
        "    begin = time.monotonic()\n"
        "    try: StoreReader(Path(path))\n"
        "    except StoreError as error: print(time.monotonic() - begin < 1, error)\n"
        "assert 'h5py' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, *map(str, sorted(tmp_path.glob("*.h5")))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(TRAPS)
    assert all(line.startswith("True ") and "delete it, then `backattn features`" in line for line in lines)


def test_huge_claims_take_no_memory(tmp_path: Path) -> None:
    path = crafted(write(tmp_path / "a.h5", make_entries([2, 0, 3])), claim_a_billion)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from backattn.common.errors import StoreError\n"
        "from backattn.store.reader import StoreReader\n"
        "try: StoreReader(Path(sys.argv[1]))\n"
        "except StoreError as error: print(error)\n"
    )
    limit = 2 << 30

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited, check=True)
    assert "keys claims 32000000000 bytes" in done.stdout


def test_a_hostile_store_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", make_entries([2]))
    reader = StoreReader(crafted(path, attribute("commit", "\x1b[2J\nrm")))
    assert r"\u001b[2J\nrm" in provenance.to_text(reader)
    with pytest.raises(StoreError) as refusal:
        StoreReader(crafted(path, attribute("\x1b[2J", 1)))
    assert str(refusal.value).isprintable()


def test_h5py_reads_the_same_numbers(tmp_path: Path) -> None:
    """A peer's reading of the same file: the index and HDF5's own structures agree."""
    path = small_store(tmp_path, big_arrays=True)
    reader = StoreReader(path)
    with h5py.File(path) as file:
        assert set(file) == {*reader.digests, "index"}
        for name in reader.digests:
            assert file[name][()].tobytes() == reader._raw(name).tobytes()
            assert file[name].shape == tuple(reader._arrays[name]["shape"])
        assert file.attrs["complete"] == 1
        for name, value in reader.attributes.items():
            found = file.attrs[name]
            assert (json.loads(found) if isinstance(value, dict | list) else found) == value


def test_numbers_of_the_seal_are_what_they_say(tmp_path: Path) -> None:
    path = small_store(tmp_path, big_arrays=True)
    data = path.read_bytes()
    values = json.loads(data[len(b"backattn store\n") : SEAL_BYTES])
    assert values["bytes"] == len(data)
    reader = StoreReader(path)
    start, length = values["big"][0]
    vectors = np.concatenate([reader[key]["vectors"] for key in reader])
    assert data[start : start + length] == vectors.tobytes()
