"""The pages: links lead somewhere, options exist, commands run, and the README stays short."""

import ast
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from backattn import cli
from backattn.corpus.formats import read_corpus
from backattn.recipe import load_recipe
from users_folder import MODELS, ORDINARY, RECIPE, fill, make_home

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "pipelines/DATA.md", ROOT / "cache/README.md"]
)
BLOCK = re.compile(r"^(?:<!-- (not run: [^\n]+) -->\n)?```(\w*)\n(.*?)^```$", re.S | re.M)
NOT_OURS = {  # options of pip, python and other programs
    *("--no-build-isolation", "--require-hashes", "--print-alignment", "--seconds", "--no-deps"),
    *("--repeats", "--echo"),  # of the benchmarks and of sacrebleu
}
# Settings of the test, where a page leaves the paper's: 150 epochs of a network of 256.
SMALL = "epochs = 1\nhidden = 8\n"


@dataclass(frozen=True)
class Block:
    page: Path
    marker: str
    language: str
    text: str

    def lines(self) -> list[str]:
        """Its commands, each on one line, without comments."""
        joined = self.text.replace("\\\n", " ")
        return [line for line in map(str.strip, joined.splitlines()) if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    return [Block(page, *found) for found in BLOCK.findall(page.read_text("utf-8"))]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.S | re.M)


def slugs(page: Path) -> set[str]:
    """The anchors that GitHub gives to headings."""
    heads = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def all_options(group: click.Group) -> Iterator[str]:
    for command in group.commands.values():
        yield from (option for param in command.params for option in (*param.opts, *param.secondary_opts))
        if isinstance(command, click.Group):
            yield from all_options(command)


def refuse_unknown(words: list[str]) -> None:
    """Fail unless the words behind ``backattn`` name a command, and each option is its own."""
    command: click.Command = cli.main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"no such command: {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    known = {o for param in command.params for o in (*param.opts, *param.secondary_opts)} | {"--help"}
    found = {word.partition("=")[0] for word in words if word.startswith("--") and word != "--"}
    assert found <= known, f"{command.name}: no such option: {found - known}"


def commands_of(line: str) -> Iterator[list[str]]:
    """The words of each call of backattn in a line of a shell."""
    line = re.sub(r"^\w+=\S+ ", "", line)
    for part in re.split(r" (?:&&|\||>|;) ", re.sub(r"\s# .*$", "", line)):
        if part.strip().startswith("backattn "):
            yield shlex.split(re.sub(r'"\$\(.*?\)"|"\$\w+"|\$\w+', "X", part))[1:]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{named(page)}: {target}: no such file"
        assert not anchor or anchor in slugs(file), f"{named(page)}: {target}: no such heading"


def test_every_page_of_the_documentation_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    pages = {named(page) for page in PAGES if page.parent == ROOT / "docs"}
    assert pages == {page for page in pages if f"]({page}" in text}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) < 1200


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_and_options_exist(page: Path) -> None:
    for block in blocks(page):
        for line in block.lines() if block.language == "sh" else []:
            for words in commands_of(line):
                refuse_unknown(words)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]
    known = {*all_options(cli.main), "--help", "--version", *NOT_OURS}
    for span in spans if page.name != "CHANGELOG.md" else []:
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", span):
            assert option in known, f"{named(page)}: `{span}`"
        if re.match(r"backattn [a-z]", span) and "[" not in span and "..." not in span:
            refuse_unknown(next(commands_of(span)))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_says_what_it_is(page: Path) -> None:
    """A block of no language would be run by nobody; a marker belongs to a block of the shell."""
    text = page.read_text("utf-8")
    found = blocks(page)
    assert len(found) == len(re.findall(r"^```", text, re.M)) / 2
    assert sum(bool(block.marker) for block in found) == text.count("<!-- not run")
    for block in found:
        assert block.language in {"sh", "python", "pycon", "toml", "text"}, block.text
        assert not block.marker or block.language == "sh"
        if block.language == "python":
            ast.parse(block.text)
        if block.language == "toml":
            tomllib.loads(block.text)


def test_the_recipe_of_the_page_is_one(tmp_path: Path) -> None:
    (block,) = (b for b in blocks(ROOT / "docs/first-corpus.md") if b.language == "toml")
    (tmp_path / "mine.toml").write_text(block.text)
    assert load_recipe(str(tmp_path / "mine.toml")).corpus.train == "mine/train.conll"


def test_messages_of_the_troubleshooting_page_are_those_of_the_source() -> None:
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    source = re.sub(r'"\s*(?:#[^\n]*)?\n\s*f?"', "", source)  # a message over several lines
    rows = re.findall(r"^\| (`.*?`) \|", (ROOT / "docs/troubleshooting.md").read_text("utf-8"), re.M)
    assert len(rows) > 10
    parts = [
        part.strip() for row in rows for span in re.findall("`(.+?)`", row) for part in span.split("...")
    ]
    assert [part for part in parts if part not in source] == []


def test_the_reference_is_that_of_the_source() -> None:
    made = runpy.run_path(str(ROOT / "docs/reference.py"))["reference"]()
    stale = "python docs/reference.py > docs/reference.md"
    assert made == (ROOT / "docs/reference.md").read_text("utf-8"), f"stale; type: {stale}"


def play(page: Path) -> int:
    """Run the commands of a page in the current folder; a line of another form fails.

    :return: how many there were.
    """
    count = 0
    for block in blocks(page):
        for line in block.lines() if block.language == "sh" and not block.marker else []:
            echo = re.fullmatch(r'echo "([^"$`]*)" \| (.*)', line)
            words = shlex.split(echo[2] if echo else line, comments=True)
            assert words[0] == "backattn", f"{named(page)}: {line}: run it here, or say why it is not run"
            result = CliRunner().invoke(cli.main, words[1:], input=f"{echo[1]}\n" if echo else None)
            assert result.exit_code == 0, f"{line}\n{result.output}{result.stderr}{result.exception!r}"
            if words[1] == "init":
                with Path("pipelines/mine.toml").open("a") as file:
                    file.write(SMALL)
            count += 1
    return count


def write_labelled(path: Path) -> None:
    """The user's own file: a token and its tag a line."""
    names = ("Weber", "Anna", "Rossi", "Ida", "Jonas", "Blum", "Eva", "Koch", "Lena", "Arndt")
    places = ("München", "Bonn", "Ulm", "Kiel")
    sentences = [f"Frau O\n{n} B-PER\nwohnt O\nin O\n{p} B-LOC\n. O\n" for n in names for p in places]
    path.write_text("\n".join(sentences), "utf-8")


def runnable(page: Path) -> bool:
    return any(block.language == "sh" and not block.marker for block in blocks(page))


WITH_MODELS = "first-corpus.md"  # stage one runs


def run_pages() -> Iterator[object]:
    for page in PAGES:
        if runnable(page) and page.name != WITH_MODELS:
            # The README's commands train a tagger.
            marks = [pytest.mark.slow] if page.name == "README.md" else []
            yield pytest.param(page, marks=marks, id=named(page))


@pytest.mark.parametrize("page", run_pages())
def test_commands_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path, monkeypatch, corpus=ORDINARY, models=MODELS)
    (home / "pipelines/de.toml").write_text(RECIPE)
    recipe = load_recipe("de")
    fill(recipe, read_corpus(recipe.corpus))
    write_labelled(home / "train.conll")
    assert play(page) > 0


@pytest.mark.slow
def test_commands_with_models_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from backattn.training.english.convert import convert_tagger
    from tiny_english import random_tagger, save_pickle

    home = make_home(tmp_path, monkeypatch)
    write_labelled(home / "train.conll")
    (home / "cache/english").mkdir(parents=True, exist_ok=True)
    save_pickle(random_tagger(home), home / "tagger.pt")
    convert_tagger(home / "tagger.pt", home / "cache/english/tagger.safetensors", sha256="", trust=True)
    assert play(ROOT / "docs" / WITH_MODELS) > 10
