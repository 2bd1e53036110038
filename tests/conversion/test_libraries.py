"""Files that spaCy, pyarrow and datasets have made come back equal; bombs and damage are refused."""

import json
import os
import random
import shutil
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backattn.common.errors import BackattnError
from backattn.conversion.convert import convert_file
from backattn.conversion.source import Options
from backattn.corpus import Sentence
from backattn.corpus.formats import parse_file
from backattn.recipe import JsonlFormat
from bounds import bounded

GOLD = [
    Sentence(("Ana", "Ruiz", "vive", "."), ("B-PER", "E-PER", "O", "O")),
    Sentence(("Lugo", "Vigo", "👩‍🚀", "é"), ("S-LOC", "S-LOC", "O", "O")),
]
TAGS = [["B-PER", "I-PER", "O", "O"], ["B-LOC", "B-LOC", "O", "O"]]
NAMES = ["O", "B-PER", "I-PER", "B-LOC"]
NUMBERS = [[NAMES.index(tag) for tag in row] for row in TAGS]


def convert(path: Path, **more: Any) -> list[Sentence]:
    out = path.parent / "out.jsonl"
    done = convert_file(path, out, kind=None, options=Options(**more), replace=True)
    assert done.guessed
    return list(parse_file(out, JsonlFormat()).sentences)


def refusal(path: Path, **more: Any) -> str:
    with pytest.raises(BackattnError) as error:
        convert_file(
            path, path.parent / "out.jsonl", options=Options(), replace=True, **{"kind": None, **more}
        )
    return str(error.value)


# spaCy


def docbin(folder: Path, *, sentences: bool = True, **more: Any) -> Path:
    spacy = pytest.importorskip("spacy", reason="spacy makes the DocBin (backattn[convert])")
    from spacy.tokens import Doc, DocBin, Span

    vocab = spacy.blank("xx").vocab
    words = [*GOLD[0].tokens, "\n", *GOLD[1].tokens]
    doc = Doc(vocab, words, sent_starts=[i in (0, 5) for i in range(len(words))] if sentences else None)
    doc.ents = [Span(doc, 0, 2, "PER"), Span(doc, 5, 6, "LOC"), Span(doc, 6, 7, "LOC")]
    path = folder / "a.spacy"
    DocBin(docs=[doc, doc], **more).to_disk(path)
    return path


@pytest.mark.parametrize("more", [{}, {"attrs": ["ORTH", "ENT_IOB", "ENT_TYPE", "SENT_START"]}])
def test_a_docbin_comes_back(tmp_path: Path, more: Any) -> None:
    assert convert(docbin(tmp_path, **more)) == GOLD * 2


def test_without_sentences_its_text_is_split(tmp_path: Path) -> None:
    read = convert(docbin(tmp_path, sentences=False, store_user_data=True))
    assert [token for s in read for token in s.tokens] == [t for s in GOLD * 2 for t in s.tokens]
    assert [tag for s in read for tag in s.tags] == [t for s in GOLD * 2 for t in s.tags]


def test_docbin_bombs_and_damage_are_refused(tmp_path: Path) -> None:
    path = docbin(tmp_path)
    data = path.read_bytes()
    bomb = tmp_path / "bomb.spacy"
    bomb.write_bytes(zlib.compress(b"\0" * (1 << 27), 9))
    assert "unpacks to more than" in refusal(bomb)
    content = msgspec.msgpack.decode(zlib.decompress(data))
    for change in (
        {"lengths": b"\xff" * 8}, {"lengths": b"\1"}, {"tokens": b"\1" * 7}, {"strings": []}, {"attrs": []},
        {"attrs": content["attrs"][1:]}, {"spaces": b""}, {"strings": 3},
        {"tokens": b"\1" * len(content["tokens"])},
    ):  # fmt: skip
        bomb.write_bytes(zlib.compress(msgspec.msgpack.encode(content | change)))
        assert "damaged, or no DocBin" in refusal(bomb)
    bomb.write_bytes(data[:-9])
    assert "not whole" in refusal(bomb)
    bomb.write_bytes(zlib.compress(b"\x91" * 1_000_000 + b"\xc0"))
    assert "damaged, or no DocBin" in refusal(bomb)
    bomb.write_bytes(b"\x78\x9cnonsense")
    assert "not packed by zlib" in refusal(bomb)


def test_a_long_document_of_a_docbin_takes_time_by_its_length(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy", reason="spacy makes the DocBin (backattn[convert])")
    from spacy.tokens import Doc, DocBin, Span

    size = 20_000
    doc = Doc(spacy.blank("xx").vocab, ["Ana", "vive"] * size, sent_starts=[True, False] * size)
    doc.ents = [Span(doc, place, place + 1, "PER") for place in range(0, 2 * size, 2)]
    DocBin(docs=[doc]).to_disk(tmp_path / "a.spacy")
    with bounded(20, 2048):
        found = convert(tmp_path / "a.spacy")
    assert found == [Sentence(("Ana", "vive"), ("S-PER", "O"))] * size


def test_pickles_in_a_docbin_are_not_opened(tmp_path: Path) -> None:
    """Its user data, which spaCy would unpack, is not read."""
    path = docbin(tmp_path)
    content = msgspec.msgpack.decode(zlib.decompress(path.read_bytes()))
    harm = b"cos\nsystem\n(S'touch " + str(tmp_path / "harm").encode() + b"'\ntR."
    array = msgspec.msgpack.encode({b"nd": True, b"type": "O", b"kind": b"O", b"shape": [1], b"data": harm})
    content |= {"user_data": [array, array], "span_groups": [array, array], "cats": [harm, harm]}
    path.write_bytes(zlib.compress(msgspec.msgpack.encode(content)))
    assert convert(path) == GOLD * 2
    assert not (tmp_path / "harm").exists()


# Parquet and Arrow


def table(tags: Any = TAGS, **columns: Any) -> Any:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow makes the file (backattn[convert])")
    return arrow.table({"id": [1, 2], "tokens": [list(s.tokens) for s in GOLD], "ner_tags": tags, **columns})


def parquet(folder: Path, made: Any = None, **more: Any) -> Path:
    path = folder / "a.parquet"
    made = table() if made is None else made
    from pyarrow.parquet import write_table

    write_table(made, path, **more)
    return path


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"compression": "zstd", "use_dictionary": False},
        {"row_group_size": 1},
        {"dictionary_pagesize_limit": 1, "data_page_size": 1, "write_batch_size": 1},
    ],
)
def test_a_parquet_file_comes_back(tmp_path: Path, more: Any) -> None:
    made = table()
    assert convert(parquet(tmp_path, made, **more)) == GOLD


def test_tags_by_number_need_their_names(tmp_path: Path) -> None:
    path = parquet(tmp_path, table(NUMBERS))
    assert "row 1: found the tag 1, expected a text; name the tags" in refusal(path)
    assert convert(path, names=tuple(NAMES)) == GOLD
    assert "row 1: found the tag 2, expected a text or a number from 0 to 1" in refusal_with(
        path, ("O", "B-PER")
    )


def refusal_with(path: Path, names: tuple[str, ...]) -> str:
    with pytest.raises(BackattnError) as error:
        convert_file(path, path.parent / "o.tsv", kind=None, options=Options(names=names), replace=True)
    return str(error.value)


def test_datasets_and_their_parquet_files_come_back(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets makes the folder", exc_type=ImportError)
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=NAMES)),
        }
    )
    rows = {"tokens": [list(s.tokens) for s in GOLD], "ner_tags": NUMBERS}
    made = datasets.Dataset.from_dict(rows, features=features)
    made.save_to_disk(tmp_path / "saved", num_shards=2)
    assert convert(tmp_path / "saved") == GOLD
    made.to_parquet(tmp_path / "a.parquet")
    assert convert(tmp_path / "a.parquet") == GOLD
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "all")
    assert "holds several data sets (train, test); name the folder of one of them" in refusal(
        tmp_path / "all"
    )
    assert convert(tmp_path / "all" / "test") == GOLD


def saved(folder: Path, made: Any = None, name: str = "data.arrow", compression: Any = None) -> Path:
    """A folder as `datasets` saves it, with a loading script beside it."""
    made = table() if made is None else made
    import pyarrow as pa

    path = folder / "saved"
    path.mkdir(exist_ok=True)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(str(path / "data.arrow"), made.schema, options=options) as writer:
        writer.write_table(made)
    (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    harm = f"open({str(folder / 'harm')!r}, 'w')\n"
    for script in ("saved.py", "__init__.py", "dataset.py"):
        (path / script).write_text(harm)
    return path


def test_a_loading_script_is_never_run(tmp_path: Path) -> None:
    made = table()
    assert convert(saved(tmp_path, made)) == GOLD
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "name", ["../a.arrow", "/etc/passwd", "..", "a\0b", "link.arrow", "pipe.arrow", "no.arrow"]
)
def test_only_files_of_the_folder_are_read(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, table(), name)
    shutil.copy(path / "data.arrow", tmp_path / "a.arrow")
    (path / "link.arrow").symlink_to(tmp_path / "a.arrow")
    os.mkfifo(path / "pipe.arrow")
    found = refusal(path)
    assert "expected a file of this folder" in found or "expected a file there (not a link)" in found


@pytest.mark.parametrize(
    "state", ["", "[]", "{}", '{"_data_files": []}', '{"_data_files": [3]}', "[" * 99_999]
)
def test_a_damaged_state_is_refused(tmp_path: Path, state: str) -> None:
    path = saved(tmp_path, table())
    (path / "state.json").write_text(state)
    assert str(path) in refusal(path)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    made = table()
    assert "expected one of tokens, words" in refusal(parquet(tmp_path, made.drop_columns(["tokens"])))
    assert "row 1: found tokens" in refusal(parquet(tmp_path, table([["O"], ["O"]])))
    assert "row 1: found tokens" in refusal(parquet(tmp_path, table(["O", "O"])))
    assert "row 2: found tokens" in refusal(parquet(tmp_path, table([TAGS[0], None])))


def test_a_schema_of_many_levels_is_damage(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    deep = pa.string()
    for _ in range(200):
        deep = pa.list_(deep)
    made = pa.table({"tokens": pa.array([None], deep), "ner_tags": [["O"]]})
    assert "a.parquet: damaged (Parquet schema too deeply nested" in refusal(parquet(tmp_path, made))


def test_a_type_that_is_a_pickle_is_not_opened(tmp_path: Path) -> None:
    """Arrow's own metadata may name a type of Python, and hold a pickle for it."""
    pa = pytest.importorskip("pyarrow")

    class Pickled(pa.ExtensionType):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(pa.list_(pa.string()), "arrow.py_extension_type")

        def __arrow_ext_serialize__(self) -> bytes:
            return f"cos\nmkdir\n(S'{tmp_path}/ran'\ntR.".encode()

    tokens = pa.ExtensionArray.from_storage(Pickled(), pa.array([["Ana"]]))
    path = parquet(tmp_path, pa.table({"tokens": tokens, "ner_tags": [["B-PER"]]}))
    assert convert(path) == [Sentence(("Ana",), ("S-PER",))]
    assert not (tmp_path / "ran").exists()


def test_damaged_files_are_refused_in_a_line(tmp_path: Path) -> None:
    """Bytes changed at random places: read, or refused, and never anything else."""
    made = table()
    arrow, parquet_file = saved(tmp_path, made) / "data.arrow", parquet(tmp_path, made)
    draw = random.Random(0)
    for target, path in ((arrow, arrow.parent), (parquet_file, parquet_file)):
        data = target.read_bytes()
        for _ in range(60):
            changed = bytearray(data)
            for _ in range(draw.randint(1, 4)):
                changed[draw.randrange(4, len(changed) - 4)] = draw.randrange(256)
            target.write_bytes(changed if draw.random() < 0.8 else changed[: draw.randrange(9, len(changed))])
            with suppress(BackattnError):
                convert(path)


def test_bombs_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    """A token of a megabyte, a million times: some kilobytes in a file, a terabyte in Python."""
    import pyarrow as pa

    made = table()
    word = "x" * 1_000_000
    tokens = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array([word]))
    row = pa.ListArray.from_arrays(pa.array([0, 1_000_000], pa.int32()), tokens)
    bomb = pa.table({"tokens": row, "ner_tags": pa.array([["O"]])})
    path = parquet(tmp_path, bomb)
    assert path.stat().st_size < 1_000_000
    assert "bytes in one part, expected at most" in refusal(path)
    assert "bytes in one part, expected at most" in refusal(saved(tmp_path, bomb))
    assert made.num_rows == 2


def number(value: int) -> bytes:
    """A whole number of 64 bits as Parquet's metadata write it (Thrift, compact)."""
    rest, found = ((value << 1) ^ (value >> 63)) & (2**64 - 1), []
    while rest > 127:
        found.append(128 | rest & 127)
        rest >>= 7
    return bytes([*found, rest])


@pytest.mark.parametrize("claim", [10**12, -5, 76, 78])
@pytest.mark.parametrize("more", [{}, {"use_dictionary": False}, {"data_page_version": "2.0"}])
def test_rows_and_values_that_the_metadata_claim(tmp_path: Path, more: Any, claim: int) -> None:
    """Each number of rows or values: refused, or all rows are read. All of them: a file of so many."""
    made = table([["B-PER"]] * 77, tokens=[["Ana"]] * 77, id=[["x"]] * 77).select(["tokens", "ner_tags"])
    path = parquet(tmp_path, made, **more)
    data = path.read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    fields = data[-8 - size : -8].split(b"\x16" + number(77))
    assert len(fields) > 4  # of the file, of the group, of each column
    for changed in (*({place} for place in range(1, len(fields))), set(range(1, len(fields)))):
        parts = [b"\x16" + number(claim if place in changed else 77) + f for place, f in enumerate(fields)]
        footer = b"".join(parts)[len(b"\x16" + number(77)) :]
        path.write_bytes(data[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
        with bounded(5, 512), suppress(BackattnError):
            assert len(convert(path)) in ({77} if len(changed) == 1 else {77, claim})


def test_compressed_buffers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow makes the file (backattn[convert])")
    zeros = pa.table({"tokens": pa.array([["\1" * 200_000_000]]), "ner_tags": pa.array([["O"]])})
    path = saved(tmp_path, zeros, compression="zstd")
    assert (path / "data.arrow").stat().st_size < 1_000_000
    monkeypatch.setattr("backattn.conversion.tables.MOST_BYTES", 1 << 24)
    assert "bytes in one part, expected at most" in refusal(path)
    # A fresh process: this one's allocator holds what it took to make the file.
    code = (
        "from pathlib import Path; from backattn.conversion import source, tables\n"
        f"tables._MEMORY = tables.MOST_BYTES = 1 << 24\n"
        f"tables.read_saved_dataset(Path({str(path)!r}), source.Options())"
    )
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=paths, capture_output=True, text=True, check=False
    )
    assert "of memory; save it in smaller parts" in done.stderr
