"""Whatever stands in files, names and arguments: no command writes what a terminal obeys, or hides text."""

import json
import os
import re
import subprocess
import sys
import tty
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from backattn import cli
from backattn.english import EnglishReading
from backattn.report.markup import script
from fakes import FakeEnglishTagger
from report.run_folders import make_run
from users_folder import build_stores, make_home

pytestmark = pytest.mark.slow

# The clipboard (OSC 52), the title, the screen, a whole line written over, C1, all that reorders, hides or
# separates; and what a report must not hold.
EVIL = (
    "x\x1b]52;c;aGk=\a\x1b]0;t\x1b[2J\x9b31m\x9d\x7f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    "\u200e\u200f\u061c\u200b\u2060\xad\u2028\u2029\U000e0041<script>alert(1)<&sect|`z"
)
# Farsi and an emoji, whose joiners are letters.
GOOD = "می\u200cخواهم \U0001f469\u200d\U0001f52c क\u094d\u200dष Zoë 王五"
HOSTILE = st.text(
    st.characters(
        codec="utf-8", categories=["Cc", "Cf", "Zl", "Zp", "Lo", "Po"], exclude_characters="\0\n\r \t/."
    ),
    min_size=1,
    max_size=20,
)
TAGGER = "\n[tagger]\nhidden = 4\nword_dimensions = 4\nepochs = 1\n"


class EvilTagger(FakeEnglishTagger):
    """Finds an entity of a type that an attacker named."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def read(self, sentences: Sequence[tuple[str, ...]]) -> list[EnglishReading]:
        tags = [tuple(f"S-{self._kind}" for _ in tokens) for tokens in sentences]
        return [EnglishReading(r.states, t) for r, t in zip(super().read(sentences), tags, strict=True)]


def hostile_characters(text: str) -> set[str]:
    return {
        c
        for c in text
        if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\u200c\u200d"
    }


def make_evil_home(folder: Path, monkeypatch: pytest.MonkeyPatch, evil: str) -> Path:
    """A user's folder with foreign text in paths, tokens, translations, types, groups, recipes and runs."""
    home = folder / f"home {evil}"
    home.mkdir()
    kind = kind_of(evil)
    corpus = dict.fromkeys(("train", "dev", "test"), f"{evil} B-{kind}\nsingt O\n\nanna O\n")
    groups = "\n[corpus.groups]\n" + f'"{toml(evil)}" = "{toml(kind)}"\n'
    make_home(home, monkeypatch, TAGGER + groups, corpus=corpus)
    monkeypatch.setenv("BACKATTN_CACHE", str(home / "cache"))
    (home / "pipelines" / f"{evil}.toml").write_text("")
    build_stores(tagger=lambda: EvilTagger(kind))
    runs = home / "cache/toy/runs"
    for inputs in ("words", "words+transfer"):
        make_run(
            runs, inputs, types={evil: (3, 1, 2)}, tagger={f"k{evil}": evil + inputs}, recipe={}, lang="toy",
            device=evil,
        )  # fmt: skip
    (runs / f"damaged\r {evil}").mkdir()
    (runs / f"damaged\r {evil}" / "run.json").write_text("{")
    (home / "cache/toy/translation" / f"{evil}.h5.partial").write_text("left")
    return home


def kind_of(evil: str) -> str:
    """A type of a corpus, which has no blanks of any kind."""
    return "".join(evil.split()) or "X"


def toml(text: str) -> str:
    return "".join(f"\\U{ord(c):08x}" for c in text)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = make_evil_home(tmp_path_factory.mktemp("evil"), monkeypatch, EVIL)
        (made / "text.txt").write_text(f"anna {EVIL} singt\n")
        yield made


def invoke(*arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(cli.main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.stdout, result.stderr


def commands(group: click.Group = cli.main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


# Command -> what it is called with; words of single calls by blanks, STORE and RUN as they are found.
CALLS: dict[tuple[str, ...], list[str]] = {
    ("recipes",): [""],
    ("keys",): ["", "--json", "EVIL"],
    ("corpus",): [
        "toy", "toy --json", "EVIL", "EVIL.toml", "toy --set EVIL=EVIL",
        "toy --set corpus.train=EVIL",
    ],
    ("init",): [
        "EVIL data/toy.train", "new EVIL", "new data/toy.train --source EVIL", "new data/toy.train",
    ],
    ("convert",): [
        "EVIL EVIL", "data/toy.train EVIL.txt", "data/toy.train EVIL.jsonl --json", "text.txt EVIL",
    ],
    ("sample",): [""],
    ("demo",): ["--threads EVIL"],
    ("models",): ["toy --dry-run", "toy --dry-run --json", "toy"],
    ("translator", "train"): ["toy", "EVIL"],
    ("charlm", "train"): ["toy", "EVIL"],
    ("vectors", "train"): ["toy", "EVIL"],
    ("english", "train"): ["toy", "EVIL"],
    ("english", "convert"): ["EVIL EVIL", "toy EVIL --sha256 EVIL"],
    ("align",): ["toy", "EVIL"],
    ("features",): [
        "toy", "toy --json", "toy --dry-run", "toy --dry-run --json", "toy --only EVIL",
        "toy --dry-run --set translator.beam=7",
    ],
    ("check",): [
        "toy", "toy --json", "toy --deep", "toy --set translator.beam=7", "toy --set translator.source=EVIL",
        "toy --set english.checkpoint=EVIL",
    ],
    ("show",): ["STORE", "STORE --json", "EVIL"],
    ("pairs",): ["toy", "EVIL"],
    ("gc",): ["toy --dry-run", "toy --dry-run --others --json", "toy --dry-run --others"],
    ("train",): [
        "toy --inputs words --seeds 1", "toy --inputs words --seeds 1 --json", "toy --inputs EVIL",
        "toy --seeds EVIL", "toy --device EVIL", "toy --sentences EVIL",
    ],
    ("report",): ["toy", "toy --json", "EVIL", "toy --sentences EVIL"],
    ("runs",): ["", "--json", "toy", "toy --json", "EVIL"],
    ("tag",): [
        "RUN text.txt", "RUN text.txt --json", "RUN text.txt --output spans", "RUN text.txt --output color",
        "EVIL", "EVIL/EVIL EVIL", "RUN EVIL", "RUN text.txt --input EVIL", "toy", "toy text.txt --best",
    ],
    ("evaluate",): [
        "RUN data/toy.test", "RUN data/toy.test --json", "RUN EVIL", "toy data/toy.test", "EVIL EVIL --best",
    ],
    ("inspect",): ["toy train:1", "toy train:1 --json", "toy EVIL", "toy train:1 --run EVIL"],
    ("project",): ["toy", "toy --json"],
    ("package",): ["RUN packaged", "RUN packaged --replace --json", "RUN EVIL", "EVIL EVIL"],
}  # fmt: skip
# Their output is data: in a file or a pipe, the very tokens.
DATA = {("pairs",), ("tag",)}


def words(call: str, home: Path) -> list[str]:
    trained = [path.parent for path in home.glob("cache/toy/runs/*/weights.safetensors")]
    places = {
        "EVIL": EVIL,
        "STORE": str(next(home.glob("cache/toy/transfer/*.h5"))),
        "RUN": str(trained[0]) if trained else "RUN",
    }
    found = []
    for word in call.split():
        for name, value in places.items():
            word = word.replace(name, value)
        found.append(word)
    return found


@pytest.fixture(scope="module")
def trained(home: Path) -> None:
    """A run for `tag`."""
    invoke("train", "toy", "--inputs", "words", "--seeds", "1", "--threads", "1")


def test_every_command_is_tried() -> None:
    assert set(commands()) == set(CALLS)


@pytest.mark.parametrize("command", commands(), ids=" ".join)
@pytest.mark.usefixtures("trained")
def test_no_command_writes_what_a_terminal_obeys(home: Path, command: tuple[str, ...]) -> None:
    wrong = [[f"--\r{EVIL}"], [EVIL] * 9, [f"--{EVIL}\nError: forged"]]
    for arguments in [*(words(call, home) for call in CALLS[command]), *wrong]:
        out, err = invoke(*command, *arguments)
        if command not in DATA:
            assert not hostile_characters(out), (arguments, out)
        assert not hostile_characters(err), (arguments, err)
        assert "\nError: forged" not in err
        assert out or err, arguments
        if "--json" in arguments:
            json.loads(out)


def test_json_is_of_equal_value(home: Path) -> None:
    out, _ = invoke("corpus", "toy", "--json")
    assert json.loads(out)["splits"]["train"]["entities"] == {kind_of(EVIL): 1}
    told = json.loads(invoke("report", "toy", "--json")[0])["langs"]["toy"]
    assert any(EVIL in table["support"] for table in told["tables"])
    (shown,) = json.loads(invoke("inspect", "toy", "train:1", "--json")[0])
    assert shown["tokens"] == [EVIL, "singt"]
    assert shown["english"] == [EVIL[::-1]]


def all_written(terminal: int) -> bytes:
    """All that a pseudo-terminal was given, whose other end is closed; one read may give a part of it."""
    parts = []
    with suppress(OSError):  # EIO at the end
        while part := os.read(terminal, 1 << 16):
            parts.append(part)
    os.close(terminal)
    return b"".join(parts)


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    "call", ["tag RUN text.txt --input tokens", "tag RUN text.txt --json --input tokens", "pairs toy"]
)
def test_data_is_exact_in_a_file_and_printable_on_a_terminal(
    home: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    arguments = words(call, home)
    token = EVIL if call.startswith("tag") else "_".join(EVIL.split())
    data, _ = invoke(*arguments)
    if as_json := "--json" in arguments:
        assert token in json.loads(data)["tokens"]
    else:
        assert token in data
    ours, theirs = os.openpty()
    tty.setraw(theirs)  # else it writes line ends of its own
    with open(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        cli.main(arguments, standalone_mode=False)
        monkeypatch.undo()
    shown = all_written(ours).decode()
    assert "singt" in shown
    assert hostile_characters(shown) <= {"\t"}
    assert shown.count("\n") == data.count("\n")
    assert shown.count("\t") == data.count("\t")
    if as_json:
        assert json.loads(shown) == json.loads(data)


def test_files_of_a_report_hold_no_foreign_markup(home: Path) -> None:
    invoke("report", "toy")
    invoke("inspect", "toy", "train:1")
    pages = list((home / "cache/toy/report").glob("*.*"))
    assert {page.suffix for page in pages} == {".html", ".md", ".json"}
    for page in pages:
        text = page.read_text("utf-8")
        assert not hostile_characters(text), page
        if page.suffix != ".json":
            assert "<script" not in text.replace(f"<script>{script('sentence.js.j2').text}</script>", ""), (
                page
            )
    json.loads((home / "cache/toy/report/report.json").read_text("utf-8"))


@pytest.mark.usefixtures("trained")
def test_a_model_card_holds_no_foreign_markup(home: Path) -> None:
    licence = f"corpus.licence={EVIL}"
    trained = words("toy --inputs words --seeds 2 --threads 1", home)
    (folder,) = json.loads(invoke("train", *trained, "--json", "--set", licence)[0])
    invoke("package", folder["folder"], "carded")
    card = (home / "carded/README.md").read_text("utf-8")
    assert not hostile_characters(card)
    assert "\\<script\\>alert(1)\\<" in card  # as Markdown, the very text
    assert not re.search(r"(?<!\\)<script", card)
    header = card.split("---\n")[1]
    keys = "language license license_name license_link library_name pipeline_tag tags datasets model-index"
    assert set(yaml.safe_load(header)) <= set(keys.split())
    assert "alert" not in header


def test_a_crash_is_told_printably(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys, warnings, backattn.cli as cli, backattn.cli.basics as steps\n"
        "def fail(*_):\n"
        "    warnings.warn(sys.argv[2])\n"
        "    raise ZeroDivisionError(sys.argv[2])\n"
        "steps.load_recipe = fail\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "corpus", EVIL], capture_output=True, check=False)
    assert b"ZeroDivisionError" in done.stderr
    assert not hostile_characters(done.stderr.decode())


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},  # Python would take UTF-8 for it
    ],
    ids=lambda locale: " ".join(f"{name}={value}" for name, value in locale.items()),
)
@pytest.mark.usefixtures("trained")
def test_output_is_utf_8_in_every_locale(home: Path, locale: dict[str, str]) -> None:
    """Standard output, standard error, and the data of `tag`."""
    (home / "utf8.txt").write_text(f"{GOOD} é\n", encoding="utf-8")
    (home / "pipelines/other.toml").write_text(
        (home / "pipelines/toy.toml").read_text().replace("toy.train", "none.王五"), encoding="utf-8"
    )
    code = (
        "import json, sys; from backattn.cli import main\n"
        "for call in json.loads(sys.argv[1]):\n"
        "    try: main(call)\n"
        "    except SystemExit: pass\n"
    )
    # Relative paths: those of the others could not be said in ASCII.
    folder = Path(words("RUN", home)[0]).relative_to(home)
    calls = [
        ["corpus", "toy", "--json"],
        ["tag", str(folder), "utf8.txt", "--input", "tokens"],
        ["corpus", "other"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(calls)],
        env={**os.environ, "BACKATTN_CACHE": "cache", **locale}, capture_output=True, check=True,
    )  # fmt: skip
    figures, _, tagged = done.stdout.decode("utf-8").partition("\n}\n")
    assert json.loads(figures + "}")["splits"]["train"]["entities"] == {kind_of(EVIL): 1}
    assert [line.split("\t")[0] for line in tagged.splitlines() if line] == [*GOOD.split(), "é"]
    assert done.stderr.decode("utf-8").startswith("backattn: data/none.王五: no such file (corpus.train)")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_ends_quietly(home: Path, unbuffered: str) -> None:
    """As `| head` does. The status is that of a tool that SIGPIPE ends."""
    code = "import sys; sys.stdin.readline(); from backattn.cli import main; main()"
    for command in (("keys",), ("pairs", "toy"), ("--help",)):
        child = subprocess.Popen(
            [sys.executable, "-c", code, *command],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        child.stdout.close()
        child.stdout = None
        assert child.communicate(b"go\n") == (None, b""), command
        assert child.returncode == 141, command


@settings(max_examples=5)
@given(HOSTILE)
def test_any_text_in_any_place(tmp_path_factory: pytest.TempPathFactory, evil: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = make_evil_home(tmp_path_factory.mktemp("any"), monkeypatch, evil)
        store = str(next(made.glob("cache/toy/transfer/*.h5")))
        for call in (
            ["recipes"], ["corpus", "toy"], ["check", "toy"], ["features", "toy", "--dry-run"],
            ["inspect", "toy", "train:1"], ["report", "toy"], ["project", "toy"], ["show", store],
            ["gc", "toy", "--others", "--dry-run"], ["corpus", evil],
            ["check", "toy", "--set", f"{evil}={evil}"],
        ):  # fmt: skip
            for json_too in ([], ["--json"]):
                told = "".join(invoke(*call, *json_too))
                assert not hostile_characters(told), call


def test_words_of_all_scripts_stay_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = {split: f"{GOOD.split()[0]} B-{GOOD.split()[1]}\n" for split in ("train", "dev", "test")}
    make_home(tmp_path, monkeypatch, corpus=corpus)
    build_stores()
    assert GOOD.split()[1] in invoke("corpus", "toy")[0]
    assert GOOD.split()[0] in invoke("inspect", "toy", "train:1")[0]
