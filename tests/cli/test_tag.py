"""`backattn tag`: every form in and out, refusals by line, streaming, and its own output read back."""

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from backattn import cli
from backattn.common.safe_text import printable
from backattn.tagging import TextTagger
from users_folder import make_home, run

TABLES = "\n[tagger]\nhidden = 4\nword_dimensions = 8\nepochs = 30\nlearning_rate = 0.5\n"
# Every capital is a name: what a tagger of characters learns from so little.
TRAIN = "\n".join(
    f"{first} B-PER\n{last} I-PER\nbor O\ni O\n{town} B-LOC\n. O\n"
    for first, last, town in zip(
        ("Anna", "Ben", "Carla", "Dora", "Emil", "Frida"),
        ("Ruiz", "Holm", "Lund", "Berg", "Dahl", "Friis"),
        ("København", "Ulm", "Lugo", "Hof", "Kiel", "Bonn"),
        strict=True,
    )
)
TEXT = "Anna Ruiz bor i København.  Ben Holm bor i Ulm.\r\n\nEmil\tDahl bor i 👩‍🚀 Lugo.\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        corpus = dict.fromkeys(("train", "dev", "test"), TRAIN)
        yield make_home(tmp_path_factory.mktemp("home"), monkeypatch, TABLES, corpus=corpus)


@pytest.fixture(scope="module")
def folder(home: Path) -> str:
    """A run on words alone, which needs no model of stage one."""
    status, out, err = run("train", "toy", "--inputs", "words", "--seeds", "1", "--threads", "1", "--json")
    assert status == 0, err
    return str(json.loads(out)[0]["folder"])


def tag(folder: str, text: str | bytes, *options: str) -> str:
    """The output for a text on standard input."""
    result = CliRunner().invoke(cli.main, ["tag", folder, *options], input=text)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def refused(folder: str, text: str | bytes, *options: str) -> str:
    """The one line of a refusal."""
    result = CliRunner().invoke(cli.main, ["tag", folder, *options], input=text)
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
    return result.stderr


def test_raw_text_gives_entities_whose_places_slice_it(folder: str) -> None:
    first, blank, last = map(json.loads, tag(folder, TEXT, "--output", "jsonl").splitlines())
    assert first["text"] == "Anna Ruiz bor i København.  Ben Holm bor i Ulm."
    assert first["tokens"] == [
        "Anna",
        "Ruiz",
        "bor",
        "i",
        "København",
        ".",
        "Ben",
        "Holm",
        "bor",
        "i",
        "Ulm",
        ".",
    ]
    assert [(e["type"], e["text"]) for e in first["entities"]] == [
        ("PER", "Anna Ruiz"), ("LOC", "København"), ("PER", "Ben Holm"), ("LOC", "Ulm"),
    ]  # fmt: skip
    assert blank == {"text": "", "tokens": [], "entities": []}
    assert last["text"] == "Emil\tDahl bor i 👩‍🚀 Lugo."
    assert last["entities"][0] | {"score": 0} == {
        "start": 0, "end": 9, "type": "PER", "score": 0, "text": "Emil\tDahl",
    }  # fmt: skip
    for document in (first, last):
        for entity in document["entities"]:
            assert document["text"][entity["start"] : entity["end"]] == entity["text"]
            assert 0.2 < entity["score"] <= 1
    assert tag(folder, TEXT, "--json") == tag(folder, TEXT, "--output", "jsonl")


def test_columns_keep_blank_lines_and_speak_three_schemes(folder: str) -> None:
    text = "Anna Ruiz bor i Ulm.\n\nKiel\n"
    rows = {
        scheme: [line.split("\t") for line in tag(folder, text, "--scheme", scheme).split("\n")]
        for scheme in ("BIOES", "IOB2", "BILOU")
    }
    tokens = ["Anna", "Ruiz", "bor", "i", "Ulm", ".", "", "", "Kiel", "", ""]
    tags = {
        "BIOES": "B-PER E-PER O O S-LOC O",
        "IOB2": "B-PER I-PER O O B-LOC O",
        "BILOU": "B-PER L-PER O O U-LOC O",
    }
    for scheme, expected in tags.items():
        assert [row[0] for row in rows[scheme]] == tokens
        assert [row[1] for row in rows[scheme][:6]] == expected.split()
    assert tag(folder, text) == tag(folder, text, "--scheme", "BIOES")


def test_all_forms_of_one_text_have_one_answer(folder: str, tmp_path: Path) -> None:
    sentences = [["Anna", "Ruiz", "bor", "i", "Ulm", "."], ["Ben", "bor", "i", "Hof"]]
    tokens = "".join(" ".join(sentence) + "\n" for sentence in sentences)
    columns = "\n".join("".join(f"{token}\tx\n" for token in sentence) for sentence in sentences)
    objects = "".join(json.dumps({"tokens": sentence}) + "\n" for sentence in sentences)
    both = "".join(json.dumps({"tokens": s, "text": "  ".join(s), "id": 7}) + "\n" for s in sentences)
    raw = "".join(json.dumps({"text": " ".join(sentence)}) + "\n" for sentence in sentences)
    expected = tag(folder, tokens, "--input", "tokens")
    assert [line.split("\t")[0] for line in expected.splitlines()] == [*sentences[0], "", *sentences[1], ""]
    for form, text in (("columns", columns), ("jsonl", objects), ("jsonl", both), ("jsonl", raw)):
        assert tag(folder, text, "--input", form) == expected
        (tmp_path / "input.gz").write_bytes(gzip.compress(text.encode()))
        assert run("tag", folder, str(tmp_path / "input.gz"), "--input", form) == (0, expected, "")
    assert tag(folder, tokens) == expected
    assert tag(folder, tokens.replace("\n", "\r\n"), "--input", "tokens") == expected
    assert tag(Path(folder).name, tokens) == expected  # the run's name alone


def test_its_output_is_read_back(folder: str) -> None:
    sentence = "Anna Ruiz bor i Ulm ."
    columns = tag(folder, sentence)
    assert tag(folder, columns, "--input", "columns") == columns
    object_ = tag(folder, sentence, "--json")
    assert tag(folder, object_, "--input", "jsonl", "--json") == object_
    predictions = (Path(folder) / "predictions.test.tsv").read_bytes()
    told = tag(folder, predictions, "--input", "columns")
    rows = [line.split("\t") for line in predictions.decode().splitlines()]
    assert told.rstrip("\n").split("\n") == ["\t".join(row[::2]) for row in rows]


def test_spans_are_a_line_each_and_color_marks_them(folder: str) -> None:
    text = "Anna Ruiz bor i Ulm.\n\nBen bor i \x1b[31mHof.\n"
    lines = [line.split("\t") for line in tag(folder, text, "--output", "spans").splitlines()]
    assert ["1", "0", "9", "PER"] in [line[:4] for line in lines]
    assert [float(line[4]) <= 1 for line in lines] == [True] * len(lines)
    assert {line[0] for line in lines} == {"1", "3"}
    plain = tag(folder, text, "--output", "color")
    assert plain.startswith("[Anna Ruiz PER] bor i [Ulm LOC].\n\n")
    assert "\x1b" not in plain
    coloured = tag(folder, text, "--output", "color", "--color")
    assert coloured.startswith("\x1b[1;")
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain
    assert re.sub(r"\[([^\]]*) (PER|LOC)\]", r"\1", plain) == printable(text, keep="\n")


def test_docstart_separates_and_is_never_tagged(folder: str) -> None:
    for form, text in (
        ("text", "-DOCSTART- -X- O\n\nAnna bor i Ulm\n"),
        ("tokens", "-DOCSTART-\nAnna bor i Ulm\n"),
        ("columns", "-DOCSTART- O\n\nAnna O\nbor O\ni O\nUlm O\n"),
        ("columns", "-DOCSTART-\tO\nAnna\tO\nbor\tO\ni\tO\nUlm\tO\n\n-DOCSTART- -X-\n"),
    ):
        told = tag(folder, text, "--input", form)
        assert told.startswith("-DOCSTART-\tO\n\n"), form
        rows = [line.split("\t")[0] for line in told.splitlines() if line]
        assert [row for row in rows if row != "-DOCSTART-"] == ["Anna", "bor", "i", "Ulm"]
        assert rows.count("-DOCSTART-") == text.count("-DOCSTART-")


def test_a_long_first_sentence_is_taken(folder: str) -> None:
    """CoNLL-2002 has one of 1,238 tokens, and `train` takes it."""
    for form, between in (("columns", "\tO\n"), ("tokens", " "), ("text", " ")):
        told = tag(folder, f"bor{between}" * 1238, "--input", form)
        assert told.count("bor\t") == 1238


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("text", b"Anna\n\nbor\ri Ulm\n", "standard input:3: found a carriage return inside the line"),
        ("tokens", b"Anna\rbor\n", "standard input:1: found a carriage return inside the line"),
        ("columns", b"Anna\tO\nb\0r\tO\n", "standard input:2: found a NUL character, expected UTF-8 text"),
        ("jsonl", b'{"text": "a"}\n{"text": "b"\r}\n', "standard input:2: found a carriage return inside"),
        ("jsonl", b'{"text": "a\\u0000"}\n', "standard input:1: found a NUL character in 'a\\x00'"),
        ("jsonl", b'{"text": "a\\ud800"}\n', "standard input:1: found half a character (a lone surrogate)"),
        ("jsonl", b'{"tokens": ["a\\tb"]}\n', "standard input:1: found a tab in the token"),
        ("jsonl", b'{"tokens": ["a", " "]}\n', "standard input:1: found ' ' as a token, expected some text"),
        ("jsonl", b"[1]\n", "standard input:1: found [1], expected a JSON object with"),
        ("jsonl", b'{"words": ["a"]}\n', 'found the keys words, expected a JSON object with "text"'),
        ("jsonl", b"Anna bor\n", "standard input:1: not JSON (Expecting value"),
        ("jsonl", b'{"text": "a", "text": "b"}\n', "standard input:1: not JSON (the key 'text' twice"),
        ("jsonl", b"[" * 100_000 + b"\n", "standard input:1: not JSON (nested too deep); expected"),
        ("jsonl", b'{"text": ' + b"9" * 5000 + b"}\n", "standard input:1: not JSON (Exceeds the limit"),
        ("jsonl", b'{"text": 7}\n', "standard input:1: found 7 as text, expected"),
        ("jsonl", b'{"tokens": "Anna"}\n', "standard input:1: found 'Anna' as tokens, expected"),
        ("jsonl", b'{"tokens": ["b", "a"], "text": "a b"}\n', "found no 'a', token 2, behind the tokens"),
        ("text", b'\n{"text": "Anna"}\n', "standard input:2: found JSON; for JSON lines say --input jsonl"),
        ("columns", b'{"text": "Anna"}\n', "standard input:1: found JSON; for JSON lines say --input jsonl"),
        ("text", b"Anna B-PER\nbor O\n", "every line has a tag, expected sentences on lines; is it a file "
         "of columns? Then say --input columns"),
        ("text", b"# news\nAnna\tO\n#x\n\n# more\nbor\tO\n", "input:6: 2 lines have a tab and a tag"),
        ("tokens", b"Anna\tO\n", "standard input:1: found a tab, expected a sentence a line"),
        ("text", "für\n".encode("latin-1"), "standard input:1: byte 2 of the line is not UTF-8; convert"),
        ("tokens", "Anna\n\ufeffBen\n".encode(), "standard input:2: found a byte order mark (U+FEFF)"),
        ("columns", "Anna\tO\n\ufeffBen\tO\n".encode(), "standard input:2: found a byte order mark (U+FEFF)"),
        ("text", b"x" * (1 << 22) + b"\n", "standard input:1: a line of more than 4,194,304 bytes"),
        ("tokens", b"x" * 10_001, "standard input:1: found a token of 10,001 characters, expected at most"),
        ("text", b"x" * 10_001, "standard input:1: found a token of 10,001 characters, expected at most"),
        ("tokens", b"x " * 10_001, "standard input:1: found a sentence of more than 10,000 tokens"),
        ("columns", b"x\tO\n" * 10_001, "standard input:10001: found a sentence of more than 10,000"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_that_names_its_line(
    folder: str, form: str, text: bytes, message: str
) -> None:
    assert message in refused(folder, text, "--input", form)


def of_format(folder: str, tmp_path: Path, **keys: object) -> str:
    """The run with another format of its corpus."""
    files = tmp_path / "run"
    files.mkdir()
    for path in Path(folder).iterdir():
        (files / path.name).write_bytes(path.read_bytes())
    recipe = json.loads((files / "recipe.json").read_text("utf-8"))
    recipe["corpus"]["format"] = keys
    (files / "recipe.json").write_text(json.dumps(recipe), "utf-8")
    return str(files)


def test_the_tag_of_another_column_than_the_last_is_named(folder: str, tmp_path: Path) -> None:
    own = of_format(folder, tmp_path, kind="columns", tag=1, separator="tab")
    text = "Anna Lee\tB-PER\tx\nBen Ruiz\tB-PER\tx\n"
    assert "2 lines have a tab and a tag, as here 'B-PER', expected" in refused(own, text, "--input", "text")


# Plain, as released: the lemma is where Universal NER has its tag.
CONLLU = (
    "# sent_id = 1\n1-2\tBenbor\t_\t_\n1\tBen\tBen\t_\n2\tbor\tbo\t_\n3\ti\ti\t_\n"
    "3.1\tx\tx\t_\n4\tHof\tHof\t_\n\n1\tKiel\tKiel\t_\n"
)
PASSED = "standard input: passed over 1 comment line, 1 multiword range, 1 empty node\n"


def test_conllu_is_read_by_name_and_where_the_corpus_is_conllu(folder: str, tmp_path: Path) -> None:
    own = of_format(folder, tmp_path, kind="conllu")
    expected = tag(folder, "Ben bor i Hof\nKiel\n", "--input", "tokens")
    for run_folder, form in ((folder, "conllu"), (own, "conllu"), (own, "columns")):
        result = CliRunner().invoke(cli.main, ["tag", run_folder, "--input", form], input=CONLLU)
        assert (result.exit_code, result.stdout, result.stderr) == (0, expected, PASSED), form
    rows = "1\tBen\tx\n2\tbor\tx\n\n1\tHof\tx\n"
    for text in (rows, rows + "".join(f"{n}\tx\ty\n" for n in range(2, 9)) + "Ben\tx\ty\n"):
        line = refused(folder, text, "--input", "columns")
        assert (
            "read as tokens, 0, counts from 1, expected words; is it CoNLL-U? Then say --input conllu" in line
        )
    for text, message in (
        ("Ben\tx\n", "standard input:1: found the id 'Ben', expected 1, a range like 2-3"),
        ("1\n", "found 1 tab-separated column, expected the id in column 0, the token in column 1; mend"),
        ("1\t" + "x" * 10_001 + "\n", "standard input:1: found a token of 10,001 characters"),
        ("".join(f"{n}\tx\n" for n in range(1, 10_002)), "input:10001: found a sentence of more than 10,000"),
    ):
        assert message in refused(folder, text, "--input", "conllu")


def test_json_lines_are_read_by_the_names_of_the_corpus(folder: str, tmp_path: Path) -> None:
    own = of_format(folder, tmp_path, kind="jsonl", tokens="words", split_characters=False)
    expected = tag(folder, "Ben bor i Hof\n", "--input", "tokens", "--json")
    line = json.dumps({"words": ["Ben", "bor", "i", "Hof"], "ner_tags": ["O"] * 4}) + "\n"
    assert tag(own, line, "--input", "jsonl", "--json") == expected
    assert tag(own, expected, "--input", "jsonl", "--json") == expected
    assert 'with "text" (a string) or "words" or "tokens" (a list' in refused(own, "{}\n", "--input", "jsonl")
    (tmp_path / "text").mkdir()
    text = of_format(folder, tmp_path / "text", kind="jsonl", text="body", language="da")
    assert tag(text, '{"body": "Ben bor i Hof"}\n', "--input", "jsonl", "--json") == expected


def test_words_in_json_become_characters_where_the_corpus_splits_them(folder: str, tmp_path: Path) -> None:
    own = of_format(folder, tmp_path, kind="jsonl", split_characters=True)
    told = json.loads(tag(own, '{"tokens": ["Ben", "bor"]}\n', "--input", "jsonl", "--json"))
    assert told["tokens"] == [*"Benbor"]


def test_a_file_is_a_file_and_its_errors_are_its_own(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("backattn.corpus.input_text._WRITER_SECONDS", 0.2)
    for path, found in (
        (tmp_path / "pipe", "is a pipe, and no program writes to it"),
        (Path("/dev/zero"), "cannot be read (not a regular file)"),
    ):
        assert refused(folder, "", str(path)) == (
            f"backattn: {path}: {found}; name a text file, or give the text on standard input\n"
        )
    result = CliRunner().invoke(cli.main, ["tag", folder, "/proc/self/mem"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "/proc/self/mem: is empty; nothing was tagged\n"
    assert tag(folder, "Ben bor\n", "-") == tag(folder, "Ben bor\n")


def test_reading_that_fails_is_not_blamed_on_the_output(folder: str, tmp_path: Path) -> None:
    with (tmp_path / "memory").open("wb") as told:
        for descriptor, message in (
            (os.open("/proc/self/mem", os.O_RDONLY), "standard input: cannot be read (Input/output error)"),
            (None, "standard input: is closed; name a text file"),
        ):
            code = f"import os; {'os.close(0)' if descriptor is None else ''}\n"
            code += "import sys; sys.stdin = None\n" if descriptor is None else ""
            code += "from backattn.cli import main; main()"
            done = subprocess.run(
                [sys.executable, "-c", code, "tag", folder], stdin=descriptor, stdout=told,
                stderr=subprocess.PIPE, check=False, text=True,
            )  # fmt: skip
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1
            assert message in done.stderr


def test_it_starts_without_torchs_compiler(folder: str) -> None:
    """Which takes seconds to import, for one random number."""
    code = (
        "import sys, pathlib\nfrom backattn.tagger.prediction import load_run, predict_scored\n"
        "predict_scored(load_run(pathlib.Path(sys.argv[1])), [('Ben',)])\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=True)


def test_a_column_of_tags_is_not_tagged(folder: str, tmp_path: Path) -> None:
    """A run whose corpus has its tokens in column 1 does not read tag's own output, nor its predictions."""
    files = of_format(folder, tmp_path, kind="columns", scheme="IOB2", token=1)
    own = tag(folder, "Anna Ruiz bor i Ulm.\nBen bor i Hof.\n")
    for text in (own, "Ana\tB-PER\nRuiz\tE-PER\n", Path(files, "predictions.test.tsv").read_text("utf-8")):
        line = refused(files, text, "--input", "columns")
        assert "the column that would be read as tokens, 1, holds tags; expected the columns" in line
    told = tag(files, "1\tAnna\tB-PER\n2\tO\tO\n", "--input", "columns")
    assert [row.split("\t")[0] for row in told.split("\n")] == ["Anna", "O", "", ""]


def test_comments_are_told_and_no_token_is_one(folder: str) -> None:
    recipe = Path(folder, "recipe.json")
    before = recipe.read_bytes()
    value = json.loads(before)
    value["corpus"]["format"]["comment"] = "#"
    recipe.write_text(json.dumps(value), "utf-8")
    text = "# a comment, with words\n#anna\tO\n#\tO\nbor\tO\n\n# one\nBen\tO\n"
    result = CliRunner().invoke(cli.main, ["tag", folder, "--input", "columns"], input=text)
    recipe.write_bytes(before)
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [
        "#anna",
        "#",
        "bor",
        "",
        "Ben",
        "",
    ]
    assert result.stderr == "standard input: passed over 2 comment lines\n"


def test_options_that_do_not_fit_are_refused(folder: str) -> None:
    for options, message in (
        (("--json", "--output", "spans"), "--json is --output jsonl, but --output says spans"),
        (("--scheme", "IOB2", "--json"), "--scheme is for --output columns, found --output jsonl"),
        (("--color",), "--color is for --output color, found --output columns"),
        (
            ("--no-split", "--input", "columns"),
            "--no-split is for --input text or jsonl, found --input columns",
        ),
        (("--tokenizer", "spacy", "--input", "tokens"), "--tokenizer is for --input text or jsonl"),
    ):
        result = CliRunner().invoke(cli.main, ["tag", folder, *options], input="a\n")
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr


def test_sentences_are_split_or_not(folder: str) -> None:
    text = "Anna bor i Ulm. Ben bor i Hof.\n"
    assert tag(folder, text).count("\n\n") == 2
    assert tag(folder, text, "--no-split").count("\n\n") == 1


def test_the_input_is_looked_at_before_models(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    monkeypatch.setattr(TextTagger, "_refuse_other_models", lambda *it: looked.append(it) or {})
    assert "carriage return" in refused(folder, "Anna\rbor\n")
    assert tag(folder, "\n\n") == "\n\n"
    assert looked == []
    assert tag(folder, "Anna\n").startswith("Anna\t")
    assert len(looked) == 1


def start(folder: str, *options: str, **environment: str) -> "subprocess.Popen[bytes]":
    code = "from backattn.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "tag", folder, *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_output_comes_while_input_is_open_and_a_closed_pipe_ends_quietly(folder: str) -> None:
    """In a locale without UTF-8, at that."""
    process = start(folder, "--batch", "2", PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write("王 bor i København.\nBen\n".encode())
    process.stdin.flush()
    first = [process.stdout.readline().decode("utf-8") for _ in range(8)]
    assert first[0].startswith("王\t")
    assert first[3].startswith("København\t")
    assert first[-1] == "\n" or first[-2] == "\n"
    process.stdout.close()
    process.stdin.write(b"Ben\nHof\n" * 5000)
    process.stdin.close()
    assert process.stderr.read() == b""
    process.wait(60)
