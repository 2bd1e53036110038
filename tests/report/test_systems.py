"""``report --with NAME=FILE``: scored like the runs, beside them, and only on the very same sentences."""

import gzip
import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from run_folders import make_run

from backattn import cli
from backattn.corpus import Sentence
from backattn.corpus.formats import read_corpus
from backattn.corpus.scoring import score
from backattn.corpus.spans import Span, from_spans
from backattn.recipe import load_recipe
from backattn.report.significance import paired_bootstrap
from backattn.report.systems import read_predictions
from hostile import answer
from users_folder import make_home

GROUPS = '[corpus.groups]\nP = "PER"\n'
Tags = list[tuple[str, ...]]


def draw(seed: int, sentences: int = 30) -> Tags:
    """Tags in BIOES; sentence i has 3 to 6 tokens."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(sentences):
        length = 3 + number % 4
        kinds = rng.choice(["", "PER", "LOC"], 2)
        spans = [Span(*place, kind) for place, kind in zip(((0, 2), (2, 3)), kinds, strict=True) if kind]
        found.append(from_spans(spans, length))
    return found


def tokens_of(tags: Tags) -> Tags:
    return [tuple(f"w{number}.{place}" for place in range(len(row))) for number, row in enumerate(tags)]


def columns(tags: Tags, tokens: Tags | None = None, middle: str = "", blank: str = "\n") -> str:
    pairs = zip(tokens or tokens_of(tags), tags, strict=True)
    return blank.join("".join(f"{t}\t{middle}{g}\n" for t, g in zip(*pair, strict=True)) for pair in pairs)


GOLD, WORDS, BAN, OTHER = (draw(seed) for seed in range(4))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus, and two runs that have scored it: words, and words+transfer with two seeds."""
    formats = '[corpus.format]\nkind = "columns"\nscheme = "BIOES"\n'
    corpus = dict.fromkeys(("train", "dev", "test"), columns(GOLD))
    home = make_home(tmp_path, monkeypatch, GROUPS + formats, corpus=corpus)
    digest = read_corpus(load_recipe("toy").corpus).digest
    for inputs, seed, tags in (
        ("words", 1, WORDS), ("words", 2, OTHER), ("words+transfer", 1, BAN), ("words+transfer", 2, GOLD),
    ):  # fmt: skip
        found = score(GOLD, tags, {"P": "PER"})
        folder = make_run(
            home / "cache" / "toy" / "runs", inputs, seed, counts=counts_of(tags), corpus=digest, lang="toy",
            groups={"P": np.array([[c.tp, c.fp, c.fn] for c in found.groups["P"]])},
            types={name: (c.tp, c.fp, c.fn) for name, c in found.types.items()},
        )  # fmt: skip
        (folder / "predictions.test.tsv").write_text(columns(tags, middle="O\t"))
    return home


def counts_of(tags: Tags) -> np.ndarray:
    return np.array([[c.tp, c.fp, c.fn] for c in score(GOLD, tags).sentences])


def report(*systems: str) -> tuple[int, dict, str]:
    options = [part for text in systems for part in ("--with", text)]
    done = CliRunner().invoke(cli.main, ["report", "toy", "--json", *options])
    tables = json.loads(done.stdout)["langs"]["toy"]["tables"] if done.exit_code == 0 else [{}]
    return done.exit_code, tables[0], done.stderr


def test_the_predictions_of_a_run_score_as_the_run(home: Path) -> None:
    folders = sorted((home / "cache/toy/runs").glob("words+*"), key=lambda f: "seed2" in f.name)
    status, table, _ = report(*(f"own={folder / 'predictions.test.tsv'}" for folder in folders))
    assert status == 0
    (row,) = [row for row in table["rows"] if row["inputs"] == "words+transfer"]
    (system,) = table["systems"]
    for own, other in ((row["test_f1"], system["test_f1"]), (row["types_f1"], system["types_f1"])):
        assert {name: measure["values"] for name, measure in own.items()} == other
    assert system["against"] == "BiLSTM+CRF+BAN"
    assert [system["difference"][name] for name in ("value", "low", "high", "p")] == [0, 0, 0, 1]


def test_a_system_stands_in_the_tables_and_in_the_bootstrap(home: Path) -> None:
    (home / "other.tsv").write_text(columns(OTHER))
    _, table, _ = report("GLiNER=other.tsv")
    (system,) = table["systems"]
    expected = paired_bootstrap(
        np.stack([counts_of(BAN), counts_of(GOLD)]), np.stack([counts_of(OTHER)] * 2), seeds=(1, 2)
    )
    assert (system["difference"]["low"], system["difference"]["value"]) == (expected.low, expected.value)
    text = (home / "cache/toy/report/report.md").read_text()
    f1 = 100 * score(GOLD, OTHER).overall.f1
    lines = [line for line in text.splitlines() if "| GLiNER" in line]
    assert len(lines) == 2  # all, and by type
    assert f"{f1:.2f}" in lines[0]
    assert f"{100 * expected.value:.2f}".lstrip("-") in lines[0]
    assert "GLiNER: predictions given with --with" in text
    assert "GLiNER" in (home / "cache/toy/report/report.html").read_text()
    (home / "second.tsv").write_text(columns(OTHER))
    (home / "third.tsv").write_text(columns(OTHER))
    report("GLiNER=other.tsv", "GLiNER=second.tsv", "GLiNER=third.tsv")  # of three seeds; ours has two
    text = (home / "cache/toy/report/report.md").read_text()
    (line,) = (line for line in text.splitlines() if "| GLiNER" in line and "(seeds 1, 2) [" in line)
    assert line.split("|")[-3].strip() == "3"
    status, table, _ = report()
    assert (status, table["systems"]) == (0, [])


# B, I, E and S in each scheme.
SPELLINGS = {"BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW", "IOB2": "BIIB"}


@given(
    st.integers(0, 99), st.integers(1, 5), st.sampled_from([*SPELLINGS]), st.sampled_from(["", "x\ty\t"]),
    st.booleans(),
)  # fmt: skip
def test_any_scheme_with_prefixes_is_read(
    seed: int, count: int, scheme: str, middle: str, tabs: bool
) -> None:
    """Spelled in each scheme, by tabs or blanks, with columns between: the same entities."""
    tags = draw(seed, count)
    letters = dict(zip("BIES", SPELLINGS[scheme], strict=True)) | {"O": "O"}
    spelled = [tuple(letters[tag[0]] + tag[1:] for tag in row) for row in tags]
    text = columns(spelled, middle=middle, blank="\n" * (1 + seed % 2))
    test = [Sentence(tokens, row) for tokens, row in zip(tokens_of(tags), tags, strict=True)]
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.write(text if tabs else text.replace("\t", "  "))
        file.flush()
        assert read_predictions(Path(file.name), test) == tags


def test_an_i_may_begin_an_entity(tmp_path: Path) -> None:
    """As systems that choose each tag by itself print it; as conlleval reads it."""
    (tmp_path / "x.tsv").write_text("a O\nb I-PER\nc I-PER\nd I-LOC\n")
    found = read_predictions(tmp_path / "x.tsv", [Sentence(tuple("abcd"), ("O",) * 4)])
    assert found == [("O", "B-PER", "E-PER", "S-LOC")]


SHUFFLED = [*tokens_of(GOLD)[1:], tokens_of(GOLD)[0]]
LONGER = [*GOLD, ("O", "O")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            columns([*GOLD[1:], GOLD[0]], SHUFFLED),
            r"bad\.tsv:1: found 'w1\.0', expected 'w0\.0' \(sentence 1 of the test split, token 1\); give",
        ),
        (
            columns(GOLD).replace("w2.3", "w2.x"),
            r"bad\.tsv:13: found 'w2\.x', expected 'w2\.3' \(sentence 3 .*, token 4",
        ),
        (columns(GOLD[:9]), r"bad\.tsv:47: found 9 sentences, expected the 30 of the test split; give"),
        (columns(LONGER), r"bad\.tsv:164: found 31 sentences, expected the 30"),
        (
            columns(GOLD)
            .replace("w0.2\tO\n", "", 1)
            .replace("w0.2\tS-PER\n", "")
            .replace("w0.2\tS-LOC\n", ""),
            r"bad\.tsv:2: found the end of the sentence after 'w0\.1', expected 'w0\.2'",
        ),
        (
            columns(GOLD).replace("\n\n", "\n", 1),
            r"bad\.tsv:4: found 'w1\.0', expected the end of the sentence",
        ),
        (columns(GOLD).replace("w4.0\t", "w4.0\tX-", 1), r"bad\.tsv:23: found tag 'X-"),
        ("w0.0\n", r"bad\.tsv:1: found 1 column, expected the token in column 0"),
        ("", r"bad\.tsv:1: found no sentence"),
        ("\n" * 5000, r"bad\.tsv:1327: found more lines than twice those of the test split"),
        ('{"tokens": ["a"]}\n', r"bad\.tsv:1: (expected a column file|found)"),
    ],
    ids=[
        "shuffled",
        "token",
        "short",
        "long",
        "early end",
        "late end",
        "tag",
        "column",
        "empty",
        "lines",
        "json",
    ],
)
def test_other_sentences_are_refused_by_their_line(home: Path, text: str, message: str) -> None:
    (home / "bad.tsv").write_text(text)
    status, _, err = report("x=bad.tsv")
    assert status == 2
    assert err.count("\n") == 1
    assert re.search(message, err), err
    assert not (home / "cache/toy/report").exists()


def test_what_is_no_file_of_predictions(home: Path) -> None:
    os.mkfifo(home / "pipe")
    (home / "bomb.gz").write_bytes(gzip.compress(b"w0.0 O " * (1 << 23)))
    (home / "latin.tsv").write_bytes(columns(GOLD).replace("w1.0", "w1.é").encode("latin-1"))
    (home / "ok.tsv").write_text(columns(GOLD))
    for text, message in (
        ("x=gone.tsv", r"^backattn: gone\.tsv: cannot be read \(No such file"),
        ("x=pipe", r"^backattn: pipe: cannot be read"),
        ("x=.", r"^backattn: \.: cannot be read"),
        ("x=bomb.gz", r"^backattn: bomb\.gz: unpacks to more than"),
        ("x=latin.tsv", r"^backattn: latin\.tsv:5: byte 4 of the line is not UTF-8"),
        ("ok.tsv", r"^backattn: --with 'ok\.tsv': expected NAME=FILE"),
        ("=ok.tsv", r"expected NAME=FILE"),
        ("x=", r"expected NAME=FILE"),
        (f"{'x' * 61}=ok.tsv", r"expected NAME=FILE, with a NAME of at most 60 printable"),
        ("a\u202eb=ok.tsv", r"^backattn: --with 'a\\u202eb=ok\.tsv': expected NAME=FILE"),
    ):
        status, _, err = report(text)
        assert (status, err.count("\n")) == (2, 1), err
        assert re.search(message, err), err
    done = CliRunner().invoke(cli.main, ["report", "toy", "es", "--with", "x=ok.tsv"])
    assert (done.exit_code, done.stderr) == (
        2, "backattn: --with: predictions are of one corpus, found 2 LANGs; report them one by one\n"
    )  # fmt: skip
    (home / "data/toy.dev").write_text("other O\n")
    status, _, err = report("x=ok.tsv")
    assert (status, "--with: no run of toy has scored the corpus that its files hold now" in err) == (1, True)


@given(
    st.lists(st.sampled_from([b"w0.0", b"\tB-PER", b"\n", b"\xff", b" ", b"-", b"S-", b"w1.0 O\n", b"\0"]))
)
def test_any_bytes_are_read_or_refused_on_one_line(parts: list[bytes]) -> None:
    test = [Sentence(("w0.0",), ("O",)), Sentence(("w1.0",), ("O",))]
    with tempfile.NamedTemporaryFile(suffix=".tsv") as file:
        file.write(b"".join(parts))
        file.flush()
        found = answer(lambda: read_predictions(Path(file.name), test), file.name)
        assert found is None or [len(tags) for tags in found] == [1, 1]
