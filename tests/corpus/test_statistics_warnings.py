"""What is unusual about a corpus: one small corpus for each warning, read from files by the command."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backattn.corpus import Corpus, Sentence
from backattn.corpus.statistics_warnings import corpus_warnings, sample_warnings
from users_folder import make_home, run


def columns(*sentences: str) -> str:
    """``Ada/PER singt`` as a column file of two columns."""
    rows = ([word.partition("/") for word in sentence.split()] for sentence in sentences)
    return "\n".join(
        "".join(f"{token} {f'B-{kind}' if kind else 'O'}\n" for token, _, kind in row) for row in rows
    )


ORDINARY = {
    "train": columns("Ada/PER grüßt Köln/LOC", "am 3.5.1990 kam er", "ja"),
    "dev": columns("Bo/PER mag Ulm/LOC", "ja", "für 20 Mark"),
    "test": columns("Cem/PER mag Rom/LOC", "ja", "gegen 8"),
}


def told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, corpus: Mapping[str, str | bytes], *options: str
) -> list[str]:
    """The warnings of ``backattn corpus`` over these files; the text, JSON and the function say the same."""
    make_home(folder, monkeypatch, corpus={})
    for split, text in {**ORDINARY, **corpus}.items():
        (folder / "data").mkdir(exist_ok=True)
        data = text if isinstance(text, bytes) else text.encode()
        (folder / f"data/toy.{split}").write_bytes(data)
    status, out, err = run("corpus", "toy", *options)
    assert (status, err) == (0, "")
    status, as_json, _ = run("corpus", "toy", "--json", *options)
    warnings: list[str] = json.loads(as_json)["warnings"]
    lines = [line for line in out.splitlines() if line.startswith("Warning: ")]
    assert lines == [f"Warning: {warning}" for warning in warnings]
    return warnings


def test_an_ordinary_corpus_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(tmp_path, monkeypatch, {}) == []


NUMBERED = "1 Ada B-PER\n2 singt O\n2-3 im O\n\n1 Bonn B-LOC\n2 hört O\n"


def test_a_column_of_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = dict.fromkeys(ORDINARY, NUMBERED)
    options = ["--set", "corpus.format.token=1"]
    found = told(tmp_path, monkeypatch, corpus)
    numbers = [line for line in found if "numbers" in line]
    assert [line.split(":")[0] for line in numbers] == ["train", "dev", "test"]
    assert numbers[0] == (
        "train: 100 % of the tokens are numbers (1, 2, 2-3, ...); expected words; if that is a column of "
        "ids, name the column of the words in corpus.format.token"
    )
    assert not [line for line in told(tmp_path, monkeypatch, corpus, *options) if "numbers" in line]


def test_all_o(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = {split: columns(f"{split} a b", "c") for split in ORDINARY}
    assert told(tmp_path, monkeypatch, corpus) == [
        "no split has an entity, every tag is O; expected entities; is corpus.format.tag the column of the "
        "tags?"
    ]


@pytest.mark.parametrize(
    ("split", "consequence"),
    [
        ("train", "nothing can be learnt from it"),
        ("dev", "F1 on it is 0 after every epoch, and the last epoch is kept whatever its quality"),
        ("test", "F1 on it is 0 whatever the tagger finds"),
    ],
)
def test_a_split_without_entities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, consequence: str
) -> None:
    assert told(tmp_path, monkeypatch, {split: columns("die", "Frau da")}) == [
        f"{split}: has no entity; expected some; {consequence}; is it the right file?"
    ]


def test_a_split_of_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = told(tmp_path, monkeypatch, {"dev": columns("Eva/PER mag Bonn/LOC und Trier/LOC")})
    assert line.startswith("dev: found one sentence (tokens: 5); expected a split of many; has the file lost")


@pytest.mark.parametrize("split", ["dev", "test"])
def test_sentences_of_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str) -> None:
    both = columns("Bo/PER mag Ulm/LOC", "ja", "für 20 Mark", "Ada/PER grüßt Köln/LOC")
    assert told(tmp_path, monkeypatch, {split: both}) == [
        f"{split}: 2 of 4 sentences (50.0 %) stand in train too, 1 of them with an entity; F1 on these does "
        "not tell how well new text is tagged; take them out of one of the two"
    ]


def test_types_that_train_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = {"test": columns("Cem/PERS mag Rom/GPE", "Eva/PER")}
    assert told(tmp_path, monkeypatch, corpus) == [
        "test: has types that train has not: GPE, PERS; no tagger can learn them; mend their spelling, or "
        "map them in corpus.format.types"
    ]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "iso-8859-15"])
def test_utf_8_declared_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    corpus = {"test": columns("Zoë/PER mag Füssen/LOC", "für 8")}
    found = told(tmp_path, monkeypatch, corpus, "--set", f"corpus.format.encoding={encoding}")
    assert [line.split(":")[0] for line in found] == ["train", "dev", "test"]
    assert found[2] == (
        "test: 3 of 3 different tokens beyond ASCII look like UTF-8 that was read in another encoding "
        "('ZoÃ«' for 'Zoë'); give corpus.format.encoding the file's own (utf-8), or mend the file"
    )


def test_a_file_that_was_converted_wrongly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is UTF-8, and what it holds is mojibake."""
    spoilt = {split: text.encode().decode("latin-1") for split, text in ORDINARY.items()}
    found = told(tmp_path, monkeypatch, spoilt)
    assert [line.partition(" different")[0] for line in found] == ["train: 2 of 2", "dev: 1 of 1"]


def test_latin_1_declared_utf_8_is_refused_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latin = {split: text.encode("latin-1") for split, text in ORDINARY.items()}
    assert told(tmp_path, monkeypatch, latin, "--set", "corpus.format.encoding=iso-8859-1") == []
    status, out, err = run("corpus", "toy")
    assert (status, out) == (2, "")
    assert "data/toy.train:2: found byte 0xfc, expected text in utf-8" in err
    assert "give the format its encoding in the recipe (iso-8859-1" in err
    # As an editor leaves it that replaces what it cannot read.
    replaced = {split: data.decode(errors="replace") for split, data in latin.items()}
    assert told(tmp_path, monkeypatch, replaced) == [
        "train: 2 of 8 tokens hold U+FFFD, which stands where a program read a file in the wrong encoding "
        "and lost its letters; get the file anew",
        "dev: 1 of 7 tokens hold U+FFFD, which stands where a program read a file in the wrong encoding "
        "and lost its letters; get the file anew",
    ]


WORDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x4FF), min_size=1, max_size=6)


@given(st.lists(WORDS.filter(lambda word: not word.isascii()), min_size=1, max_size=5))
def test_every_text_in_utf_8_is_known_when_read_as_latin_1(words: list[str]) -> None:
    misread = [word.encode().decode("latin-1") for word in words]
    many = tuple(Sentence((word,), ("S-X",)) for word in misread)
    lines = corpus_warnings(Corpus(many * 2, (), ()))
    assert [line for line in lines if "look like UTF-8" in line]


def test_a_sample_without_entities() -> None:
    rare = Sentence(("Ada",), ("S-PER",))
    train = (rare, *(Sentence((f"w{number}",), ("O",)) for number in range(30)))
    place = sorted(range(31), key=lambda number: train[number].key).index(0)
    corpus = Corpus(train, (rare, rare), (rare, rare))
    assert sample_warnings(corpus, [place + 1, 31]) == ()
    assert sample_warnings(corpus, [place, place]) == (
        f"train: the sample of {place} has no entity, so that nothing is learnt; train on more sentences "
        "(--sentences)",
    )


def test_no_module_is_loaded_late() -> None:
    """Codecs are modules: a process that can open no file any more still tells what is unusual."""
    program = """
import sys
from backattn.corpus import Corpus, Sentence
from backattn.corpus.statistics_warnings import corpus_warnings

corpus = Corpus(*[(Sentence(("\\u0142\\u00f3d\\u017a", "M\\u00c3\\u00bcnchen"), ("O", "S-LOC")),)] * 3)
sys.meta_path.clear()
print(*corpus_warnings(corpus), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "stand in train too" in done.stdout
