"""Read tokens and tags from Parquet files, and from folders that `datasets` has saved (Arrow), with pyarrow.

``datasets`` itself is not imported: a folder may hold a program, and only the files that its ``state.json``
lists are read. Sizes are checked before values are made of them, and memory is limited meanwhile.
"""

import resource
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backattn.common.atomic_files import is_own_file
from backattn.common.errors import BackattnError, CorpusError, MissingError
from backattn.common.json_files import parse
from backattn.common.regular_files import open_regular
from backattn.common.safe_text import error_text, listed, quoted
from backattn.common.strict_json import parse_strictly
from backattn.conversion.rows import TokenRows
from backattn.conversion.source import Options, Source, first, need, read_text
from backattn.corpus.labelled import MOST_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

TOKENS = ("tokens", "words", "tokenized_text")
TAGS = ("ner_tags", "tags", "labels", "ner")
# Rows that are converted to Python values at a time.
_ROWS = 256
# Most values in one part of a file; with their offsets and codes they take some bytes each.
_MOST_VALUES = 100_000_000
# Bytes of memory that reading may take beyond what the process has and the largest file takes.
_MEMORY = 6 << 30


def read_parquet(path: Path, options: Options) -> Source:
    """Read a Parquet file with a column of lists of tokens and one of lists of tags.

    :raises BackattnError: pyarrow is not installed.
    :raises CorpusError: the file is damaged, too large, or has no such columns; names file and row.
    """
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        need("pyarrow", error)
    rows = TokenRows(options)
    with _arrow_errors(path), _limited_memory(), open_regular(path) as opened:
        file = parquet.ParquetFile(opened)
        schema = file.schema_arrow
        chosen = _columns(path, schema)
        leaves = [file.schema.column(place).path for place in range(len(file.schema))]
        needed = [place for place, leaf in enumerate(leaves) if leaf.split(".")[0] in chosen]
        metadata = file.metadata
        for group in range(metadata.num_row_groups):
            chunks = [metadata.row_group(group).column(place) for place in needed]
            _check_size(
                path,
                sum(chunk.num_values for chunk in chunks),
                sum(chunk.total_uncompressed_size for chunk in chunks),
            )
        # Read with dictionary encoding, a repeated text takes memory once.
        encoded = parquet.ParquetFile(path, read_dictionary=[leaves[place] for place in needed])
        names, number = _names(schema, chosen[1]), 0
        for group in range(metadata.num_row_groups):
            batches = _batches(encoded, file, group, chosen)
            number = _add(path, batches, chosen, names, rows, number)
        if number != metadata.num_rows:
            raise CorpusError(
                f"{path}: damaged (promises {metadata.num_rows:,} rows, {number:,} follow); save it again"
            )
    return rows.source


def _batches(encoded: Any, file: Any, group: int, chosen: tuple[str, str]) -> list["pa.RecordBatch"]:
    """Read the rows of a row group in small batches.

    :param encoded, file: the file, opened to read texts as dictionary indices, and as plain texts. A column
        whose writer gave up its dictionary halfway can only be read as plain texts.
    """
    import pyarrow as pa

    how = {"batch_size": _ROWS, "row_groups": [group], "columns": [*chosen]}
    try:
        return list(encoded.iter_batches(**how))
    except pa.ArrowNotImplementedError:
        return list(file.iter_batches(**how))


def read_saved_dataset(path: Path, options: Options) -> Source:
    """Read a folder that ``Dataset.save_to_disk`` has written.

    :raises BackattnError: pyarrow is not installed.
    :raises MissingError: a file of it is missing.
    :raises CorpusError: it is damaged, or has no columns of tokens and tags; names file and row.
    """
    try:
        import pyarrow as pa
    except ModuleNotFoundError as error:
        need("pyarrow", error)
    rows, number = TokenRows(options), 0
    for file in _data_files(path):
        with _arrow_errors(file), _limited_memory(), pa.memory_map(str(file)) as mapped:
            reader = pa.ipc.open_stream(mapped)
            chosen = _columns(file, reader.schema)
            places = [reader.schema.get_field_index(name) for name in chosen]

            def batches(reader: Any = reader, places: Sequence[int] = places) -> Iterator["pa.RecordBatch"]:
                for batch in reader:
                    batch.validate(full=True)  # offsets of a damaged file may point outside of it
                    for begin in range(0, batch.num_rows, _ROWS):
                        yield batch.select(places).slice(begin, _ROWS)

            number = _add(file, batches(), chosen, _names(reader.schema, chosen[1]), rows, number)
    return rows.source


def _data_files(folder: Path) -> list[Path]:
    """Return the Arrow files that a saved data set lists.

    :raises MissingError: a file is missing.
    :raises CorpusError: the list is damaged or empty, or names a file outside of the folder.
    """
    try:
        state = parse_strictly(read_text(folder / "state.json", "the state of a saved data set"))
        names = [file["filename"] for file in state["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{folder / 'state.json'}: damaged ({error_text(error)}); save it again") from None
    if state.get("_indices_data_files") or not names:
        raise CorpusError(f"{folder}: is a selection of another data set, or empty; save it again as a whole")
    for name in names:
        if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
            raise CorpusError(
                f"{folder / 'state.json'}: found the file name {quoted(name)}, expected a file of this folder"
            )
        if not is_own_file(folder / name):
            raise MissingError(
                f"{folder / name}: expected a file there (not a link); save the data set again"
            )
    return [folder / name for name in names]


def _columns(path: Path, schema: "pa.Schema") -> tuple[str, str]:
    """Find the names of the columns of tokens and of tags.

    :raises CorpusError: one is missing, or two columns have its name.
    """
    found = first(schema.names, TOKENS), first(schema.names, TAGS)
    for name, known in zip(found, (TOKENS, TAGS), strict=True):
        if not name or schema.names.count(name) > 1:
            raise CorpusError(
                f"{path}: found the columns {listed(schema.names)}, expected one of {', '.join(known)}; "
                "rename the column before you save the file"
            )
    return found


def _names(schema: "pa.Schema", column: str) -> tuple[str, ...]:
    """Return the tags that numbers stand for, if `datasets` has stored them (ClassLabel); else nothing."""
    try:
        features = parse((schema.metadata or {})[b"huggingface"])["info"]["features"]
        feature = features[column]
        for _ in range(2):  # {"feature": {"names": ...}}, or a list of one
            feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
        names = feature["names"]
        return tuple(names) if all(isinstance(name, str) for name in names) else ()
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        return ()


def _add(
    path: Path,
    batches: Iterable["pa.RecordBatch"],
    chosen: tuple[str, str],
    names: tuple[str, ...],
    rows: TokenRows,
    number: int,
) -> int:
    """Add the rows of batches.

    :param number: number of rows that were added before.
    :returns: number of rows that were added, these included.
    """
    for batch in batches:
        columns = [batch.column(batch.schema.get_field_index(name)) for name in chosen]
        _check_size(path, sum(map(_values, columns)), sum(map(_characters, columns)))
        for tokens, tags in zip(*(column.to_pylist() for column in columns), strict=True):
            number += 1
            rows.add(f"{path}: row {number}", tokens, tags, names)
    return number


def _check_size(path: Path, values: int, size: int) -> None:
    if values > _MOST_VALUES or size > MOST_BYTES:
        raise CorpusError(
            f"{path}: holds {values:,} values and {size:,} bytes in one part, expected at most "
            f"{_MOST_VALUES:,} and {MOST_BYTES:,}; save it in smaller parts"
        )


def _values(column: "pa.Array") -> int:
    return len(column.flatten()) if hasattr(column, "flatten") else len(column)


def _characters(column: "pa.Array") -> int:
    """Count the bytes of the texts of a column of lists, as plain texts."""
    import pyarrow as pa
    from pyarrow import compute

    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return 0
    values = column.flatten()
    if pa.types.is_dictionary(values.type):
        lengths = compute.binary_length(values.dictionary).take(values.indices)
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        lengths = compute.binary_length(values)
    else:
        return 0
    return compute.sum(compute.cast(lengths, "int64")).as_py() or 0


@contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    """Report pyarrow's errors about a file as a damaged file."""
    import pyarrow as pa

    try:
        yield
    except BackattnError:
        raise
    except MemoryError:
        raise CorpusError(
            f"{path}: takes more than {_MEMORY >> 30} GiB of memory; save it in smaller parts"
        ) from None
    except (pa.ArrowException, ValueError, KeyError, IndexError) as error:
        raise CorpusError(f"{path}: damaged ({error_text(error)}); save it again") from None
    except OSError as error:
        if error.errno is None:  # pyarrow's own error, about the contents of the file
            raise CorpusError(f"{path}: damaged ({error_text(error)}); save it again") from None
        raise MissingError(f"{path}: cannot be read ({error.strerror}); put it back") from None


@contextmanager
def _limited_memory() -> Iterator[None]:
    """Limit the address space: a file of a few bytes may ask for any amount of memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        used = 1 << 40
    limit = used + _MEMORY + MOST_BYTES
    hard = before[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
