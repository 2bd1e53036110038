"""Coverage-guided fuzzing: ``python tests/faults/fuzz.py TARGET --seconds N`` (``pip install ".[fuzz]"``).

Mutates seeds that it makes itself, guided by the branches that our own code takes, and stops with a
non-zero status at the first input that breaks a property of ``tests/hostile.py``, takes long or takes
much memory. The input lies where the last lines say; ``fuzz.py TARGET FILE`` runs it alone.
"""

import argparse
import copy
import dataclasses
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

MEMORY_MB = 1024
SECONDS_AN_INPUT = 5
LONGEST_INPUT = 1 << 13

ENCODINGS = (
    "utf-8", "iso-8859-1", "utf-16", "utf-8-sig", "utf-32-le", "cp037", "gb18030", "shift_jis", "iso2022_jp",
    "utf-7", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "rot13", "hex", "zlib", "bz2",
    "undefined", "charmap", "ascii", "hz", "big5hkscs", "mbcs", "a.b", "../x", "utf-8\0", "\x1b[31m",
    "\ud800", "x" * 5000, "",
)  # fmt: skip
SCHEMES: tuple[typing.Any, ...] = ("IOB1", "IOB2", "BIOES", "BMES", "BIO", "BILOU", "BMEWO", "IO")
COLUMNS = (0, 1, 2, -1, -2, 7, -9, 2**70)
COMMENTS = ("", "#", "# ", "\t", "\x1b", "x" * 3000)
DOCSTARTS = ("", "-DOCSTART-", "O", "a b", "\t", "é")
TYPES = ({}, {"X": "Y", "PER": ""}, {"X": "a b"}, {"X": "\u2028"}, {"X" * 9000: "Y"}, {"X": "Y" * 9000})  # type: ignore[var-annotated]


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    :param check: raises for an input that breaks a property.
    :param seeds: inputs to begin with.
    :param words: what a mutation may put in.
    """

    check: Callable[[bytes], object]
    seeds: list[bytes]
    words: list[str]


def corpus(folder: Path) -> Target:
    """The first ten bytes choose a format, the others are the file."""
    from backattn.recipe import ColumnFormat
    from hostile import check_column_file

    def check(data: bytes) -> None:
        choice = iter(data[:10].ljust(10, b"\0"))

        def one_of(values: typing.Any) -> typing.Any:
            byte = next(choice)
            return values[byte % len(values) if byte < 128 else 0]  # the first one is the ordinary one

        format = ColumnFormat(
            encoding=one_of(ENCODINGS), scheme=one_of(SCHEMES), token=one_of(COLUMNS), tag=one_of(COLUMNS),
            comment=one_of(COMMENTS), docstart=one_of(DOCSTARTS), types=one_of(TYPES),
            separator=one_of(("whitespace", "tab")), segmentation_digit=(flags := next(choice)) % 4 == 1,
            orphans="begin" if flags % 3 == 1 else "refuse", type=one_of(("", "PER", "a b")),
        )  # fmt: skip
        check_column_file(folder / "file.txt", data[10:], format)

    texts = [
        "a O\nb B-X\nc I-X\n\nd B-PER\n", "-DOCSTART- -X- O\n\na NN I-X\nb NN B-X\n", "王0\tB-X\n五1\tI-X\n",
        "# x\n1\ta\tB-X\tO\n2\tb\tE-X\tO\n", "a\tS-X\nb\tB-X\nc\tM-X\nd\tE-X\n", "\ufeffa O\r\nb O\r\n",
        "RT\tO\n#a\tB-X\n\n# one\n#\tO\n", "# 1\n1\ta\tB-X\n# 2\n1\tb\tI-X\n", "a X\nb X\n# x\nc O\n",
        "a\tB-X\nb\tI-X\nc\tL-X\nd\tU-X\n", "a B\nb I\n\nc O\n", "a O\n\n\ufeffb O\n", '{"tokens": ["a"]}\n',
        "T1\tX 0 1\ta\n", "1\ta\tO\n2-3\tbc\tO\n2\tb\tO\n", "a\tB-X\nb\tM-X\nc\tE-X\nd\tW-X\n",
    ]  # fmt: skip
    seeds = []
    for number, (encoding, text) in enumerate(itertools.product(range(len(ENCODINGS)), texts)):
        scheme, token, tag = number % len(SCHEMES), number % 3 // 2, 3 - number % 2
        flags = [number % 3, number % 2, number % 6, number % 2, number % 12, number % 5 // 4]
        header = bytes([encoding, scheme, token, tag, *flags])
        try:
            seeds.append(header + text.encode(ENCODINGS[encoding]))
        except (LookupError, UnicodeError, ValueError):
            seeds.append(header + text.encode("utf-8"))
    long = ["a\tB-" + "X" * 7000, "a " * 4000, "a O\n" * 2000, "-DOCSTART- O\n" * 600, " \n" * 4000,
            "a\tB-X\n" + "b\tI-X\n" * 1000, "a" * 8000 + "\tO\n"]  # fmt: skip
    seeds += [bytes(10) + text.encode() for text in long]
    words = ["B-X", "I-X", "E-X", "S-X", "M-X", "O", "-DOCSTART-", "\t", "\r\n", "\n\n", "\u2028", "\ufeff",
             "L-X", "U-X", "W-X", "#", "\n#", "#\tO", '{"a": 1}', "2-3", "1.1"]  # fmt: skip
    return Target(check, seeds, words)


def recipe(folder: Path) -> Target:
    """The first byte says how the others are read: a recipe, its English part, JSON, overrides, a LANG."""
    from backattn.recipe import as_json, load_recipe, schema
    from hostile import answer, check_english_file, check_recipe_file, check_recipe_json

    minimal = (
        '[corpus]\ntrain="a"\ndev="b"\ntest="c"\nsource="d"\n[corpus.format]\ntypes={X="Y"}\n'
        '[translator]\nkind="fairseq"\nsource="de"\ncheckpoint="x"\n[english]\ncheckpoint="y"\n'
    )
    path = folder / "toy.toml"
    path.write_text(minimal)
    valid = as_json(load_recipe(str(path)))
    os.chdir(folder)

    def check(data: bytes) -> None:
        mode, data = (data[0] % 6 if data else 0), data[1:]
        text = data.decode("utf-8", "surrogateescape")
        if mode == 0:
            check_recipe_file(path, data)
        elif mode == 1:
            check_english_file(path, data)
        elif mode == 2:
            # Our own reader of JSON files turns these into errors before a recipe is seen.
            try:
                value = json.loads(data)
            except (ValueError, RecursionError):
                return
            if isinstance(value, dict):
                check_recipe_json(value)
        elif mode == 3:
            check_recipe_file(path, minimal.encode(), tuple(text.split("\x1e")), name=" ")
        elif mode == 4 and not text.endswith(".toml"):
            answer(lambda: load_recipe(text), "")
        elif mode == 5:
            part, _, value = text.partition("=")
            check_recipe_file(path, minimal.encode(), (f"corpus.format.{part}={value}",), name=" ")

    names = [
        field.name
        for kind in vars(schema).values()
        if dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind)
    ]
    texts = [
        minimal,
        *(
            file.read_text("utf-8")
            for file in sorted((Path(__file__).parents[2] / "pipelines").glob("*.toml"))
        ),
    ]
    seeds = [bytes([mode]) + text.encode() for text in texts for mode in (0, 1)]
    seeds.append(b"\2" + json.dumps(valid).encode())
    seeds += [
        b"\3" + text.encode()
        for text in (
            "tagger.epochs=3", "transfer.eos=keep\x1etagger.dropout=0.1", "corpus.groups={NE='.NAM'}",
            "english.training.files=[{path='x'}]", "name=../../x", "tagger.epochs=" + "9" * 30,
            "tagger.dropout=nan", "tagger.epochs=0x" + "f" * 300, "a=" + "[" * 2000,
        )
    ]  # fmt: skip
    seeds += [b"\4" + text for text in (b"de", b"../x", b"a/b", b"a\nb", b"-x", b"\x1b[31m", b"x" * 5000)]
    seeds += [b"\5encoding=rot13", b"\5types={X='a b'}", b"\5comment='''\n'''"]
    words = [
        *names,
        "= [",
        "{",
        "}",
        "'''",
        '"""',
        "[[",
        "]]",
        "inf",
        "nan",
        "0x",
        "true",
        "1979-05-27",
        "\\u0000",
    ]
    return Target(check, seeds, words)


def walk(tree: typing.Any) -> typing.Iterator[tuple[typing.Any, typing.Any]]:
    """Every place of a JSON value: what holds it, and its key there."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from walk(value)


def store(folder: Path) -> Target:
    """The first byte says what is attacked: the index as text or as values, the seal, or any byte.

    All but an attacked seal are sealed again, so that no digest hides the reader from the fuzzer.
    """
    from backattn.common.errors import StoreError
    from backattn.store import provenance
    from backattn.store.reader import StoreReader
    from backattn.store.seal import SEAL_BYTES, check_seal, write_seal
    from store_samples import make_entries, write

    path = write(folder / "store.h5", make_entries([2, 0, 3]))
    base = path.read_bytes()
    with path.open("rb") as file:
        made, index = check_seal(file)

    def check(data: bytes) -> None:
        mode, data = (data[0] % 4 if data else 0), data[1:]
        if mode in {0, 3}:
            data = data if mode == 0 else edited_values(data)
            path.write_bytes(base + data)
            write_seal(path, (len(base), len(data)), [])
        elif mode == 1:
            path.write_bytes(data[:SEAL_BYTES].ljust(SEAL_BYTES) + base[SEAL_BYTES:])
        else:  # each three bytes: a place and what to put there
            edited = bytearray(base)
            for place in range(0, len(data) - 2, 3):
                edited[int.from_bytes(data[place : place + 2]) % len(base)] = data[place + 2]
            path.write_bytes(edited)
            write_seal(path, made.index, [])
        try:
            reader = StoreReader(path)
            reader.verify()
            assert len([reader[key] for key in reader]) <= reader.sentences
            shown = provenance.to_text(reader) + json.dumps(provenance.to_json(reader))
        except StoreError as error:
            shown = str(error)
            assert len(shown) < 600
        assert shown.replace("\n", "").isprintable()

    def edited_values(data: bytes) -> bytes:
        """Each three bytes: which value of the index, which of the others takes its place, how it changes."""
        tree = json.loads(index)
        for place in range(0, len(data) - 2, 3):
            where, other, change = data[place : place + 3]
            places = list(walk(tree))
            if not places:
                break
            holder, key = places[where % len(places)]
            giver, name = places[other % len(places)]
            value = copy.deepcopy(giver[name])
            if change % 4 == 1:
                value = copy.deepcopy(strange[other % len(strange)])
            elif change % 4 == 2 and type(value) is int:
                value += (1 << (change >> 2)) * (-1) ** other
            elif change % 4 == 3 and isinstance(holder, dict):
                del holder[key]
                continue
            holder[key] = value
            if len(json.dumps(tree)) > LONGEST_INPUT:
                break
        return json.dumps(tree).encode()

    strange = (None, 0, "", [], {}, -1, 2**64, 1e300, True, "\x1b[2J", [[[[]]]] * 9, "float16", 2**31, "7")  # type: ignore[var-annotated]
    seeds = [b"\0" + index, b"\1" + base[:SEAL_BYTES], b"\2" + bytes(range(30))]
    seeds += [bytes([3, *random.Random(n).randbytes(3 * (1 + n % 5))]) for n in range(300)]
    value = json.loads(index)
    for name in value["attributes"]:
        for other in strange:
            changed = {**value, "attributes": {**value["attributes"], name: other}}
            seeds.append(b"\0" + json.dumps(changed).encode())
    words = [*value["attributes"], *value["arrays"], "offset", "shape", "dtype", "float16", "int64", "1e999"]
    return Target(check, seeds, words)


# A function of a scratch folder; it is called once, with our modules not yet imported.
TARGETS = {"corpus": corpus, "recipe": recipe, "store": store}


def main() -> None:
    """Fuzz one target, or run single inputs."""
    parser = argparse.ArgumentParser(description="Coverage-guided fuzzing.")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("files", nargs="*", help="inputs to run alone, as an earlier run left them")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    try:
        import atheris
    except ModuleNotFoundError:
        sys.exit('fuzz.py needs the package atheris: pip install ".[fuzz]"')
    # In memory where there is such a folder: every input is written once or twice.
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{options.target}-", dir=shared))
    found = Path(tempfile.mkdtemp(prefix=f"found-{options.target}-"))
    files = [str(Path(file).absolute()) for file in options.files]
    if child := os.fork():  # libFuzzer ends its process without a word to Python: another one tidies up
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        shutil.rmtree(folder)
        if not any(found.iterdir()):
            found.rmdir()
        sys.exit(status if status >= 0 else 1)
    (folder / "scratch").mkdir()
    with atheris.instrument_imports(include=["backattn", "tomllib"]):
        target = TARGETS[options.target](folder / "scratch")
    seeds = folder / "seeds"
    seeds.mkdir()
    for number, seed in enumerate(target.seeds):
        (seeds / f"{number:04}").write_bytes(seed)
    words = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in target.words)
    (folder / "words").write_text("".join(f'"{word}"\n' for word in words))
    flags = [
        f"-rss_limit_mb={MEMORY_MB}", f"-timeout={SECONDS_AN_INPUT}", f"-max_total_time={options.seconds}",
        f"-max_len={LONGEST_INPUT}", f"-dict={folder / 'words'}", f"-artifact_prefix={found}{os.sep}",
        "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags, *(files or [str(seeds)])], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
