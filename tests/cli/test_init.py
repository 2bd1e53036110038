"""`backattn init`: from files to a recipe that works at once, and what it refuses."""

import gzip
import json
import os
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backattn.corpus import SPLITS
from backattn.corpus.detection import detect
from backattn.corpus.formats import parse_file, read_corpus
from backattn.new_recipe import write_recipe
from backattn.recipe import PACKAGED, CopyRecipe, TransformersRecipe, data_path, known_recipes, load_recipe
from backattn.recipe.writing import to_toml
from hub_cache import COMMIT, serve_hub
from users_folder import run

TRAIN = "Anna\tB-PER\nRuiz\tI-PER\nsingt\tO\n\nUlm\tB-LOC\nist\tO\nschön\tO\n\n"
DEV = "Carl\tB-PER\nsingt\tO\n\nKöln\tB-LOC\nauch\tO\n\n"
TEST = "Dora\tB-PER\nlacht\tO\n\nBonn\tB-LOC\nnicht\tO\n\n"
FILES = ("data/my.train", "data/my.dev", "data/my.test")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BACKATTN_DATA", raising=False)
    monkeypatch.delenv("BACKATTN_CACHE", raising=False)
    (tmp_path / "data").mkdir()
    for name, text in zip(FILES, (TRAIN, DEV, TEST), strict=True):
        Path(name).write_text(text, "utf-8")
    return tmp_path


def one_file(sentences: int = 40) -> Path:
    path = Path("all.conll")
    path.write_text("".join(f"Anna{n}\tB-PER\nsingt\tO\n\n" for n in range(sentences)), "utf-8")
    return path


def test_what_was_found_is_shown_and_the_next_command_works(home: Path) -> None:
    status, out, err = run("init", "my", *FILES)
    assert status == 0
    assert out.startswith("pipelines/my.toml: written\n")
    for line in (
        "  form     columns, separated by tabs; utf-8",
        "  tokens   column 0 (Anna, Ruiz, singt)",
        "  tags     the last column, IOB2",
        "  types    LOC, PER",
        "  unit     words",
        "  dev      data/my.dev (sentences: 2)",
        "  English  copy: the English tagger reads the words as they are (no --source was given)",
        "  Anna   B-PER",
        "  Ruiz   E-PER",
    ):
        assert line in out.split("\n")
    command = err.strip().split("\n")[-1].removeprefix("next: ").partition(" (")[0].split()
    assert command == ["backattn", "train", "my", "--inputs", "words", "--seeds", "1"]
    small = ["--set", "tagger.epochs=1", "--set", "tagger.hidden=4"]
    status, _, err = run(*command[1:], *small)
    assert status == 0
    assert "\nnext: backattn report my --set tagger.epochs=1 --set tagger.hidden=4" in f"\n{err}"
    status, out, _ = run("corpus", "my")
    assert (status, "different sentences" in out) == (0, True)
    recipe = load_recipe("my")
    assert recipe.corpus.train == "my.train"
    assert recipe.translator == CopyRecipe(source="und")
    assert next(one for one in known_recipes() if one.name == "my").about.startswith("Our own corpus; ")


def test_json_says_the_same_and_nothing_else(home: Path) -> None:
    status, out, err = run("init", "my", *FILES, "--source", "fi", "--json")
    found = json.loads(out)
    assert (status, err, found["path"]) == (0, "", "pipelines/my.toml")
    assert found["found"]["scheme"] == "IOB2"
    assert found["recipe"]["translator"] == {"kind": "copy", "source": "fi"}
    assert found["way"].endswith("(no translator or dictionary of fi is known here)")


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("es", "fairseq", "our own translator es/translator, made by `backattn translator train es`"),
        ("de", "fairseq", "our own translator de/translator"),
        ("zh", "dictionary", "by the dictionary lexicon/cc-cedict/"),
        ("zh_TW", "dictionary", "by the dictionary lexicon/cc-cedict/"),
        ("ca", "copy", "no translator or dictionary of ca is known here"),
        ("en", "copy", "none is needed: the text is English"),
        ("sample", "copy", "no translator or dictionary of sample"),
    ],
)
def test_the_way_to_english_is_the_languages_own(home: Path, source: str, kind: str, words: str) -> None:
    """And nothing in the recipe is of another language."""
    status, out, _ = run("init", "my", *FILES, "--source", source)
    assert (status, words in out) == (0, True)
    recipe = load_recipe("my")
    assert type(recipe.translator).__name__.lower().startswith(kind)
    assert recipe.translator.source == source or kind == "fairseq"
    text = Path("pipelines/my.toml").read_text("utf-8")
    for other in {"es", "de", "zh", "english"} - {source.partition("_")[0], "english"}:
        assert f'"{other}' not in text
        assert f"/{other}/" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["../my", *FILES], "NAME '../my': expected a name for the recipe (letters, digits, . _ and -; "),
        (['my"\nx', *FILES], "NAME 'my\"\\nx': expected a name for the recipe"),
        (
            ["my.toml", *FILES],
            "NAME 'my.toml': expected a name for the recipe (letters, digits, . _ and -; w",
        ),
        (
            ["es", *FILES],
            "NAME es: the package has a recipe of this name, which pipelines/es.toml would hide",
        ),
        (["english", *FILES], "NAME english: the package has a recipe of this name"),
        (
            ["my", FILES[0]],
            "found 1 file, expected TRAIN DEV TEST; to split one: `backattn init my FILE --spl",
        ),
        (["my", *FILES[:2]], "found 2 files, expected TRAIN DEV TEST"),
        (["my", *FILES, "--split", "80,10,10"], "--split: splits one file, found 3; leave it out"),
        (
            ["my", FILES[0], "--split", "80,10"],
            "'80,10': expected three percentages of sum 100, as in 80,10,10",
        ),
        (["my", FILES[0], "--split", "90,10,0"], "expected three percentages of sum 100"),
        (
            ["my", FILES[0], "--split", "80,10,10"],
            "found 2 different sentences, too few for --split: no sent",
        ),
        (["my", *FILES, "--source", "../x"], "--source '../x': expected a language code such as de or zh_CN"),
        (["my", *FILES[:2], "data/none"], "data/none: cannot be read (no such file); name a column file"),
        (["my", *FILES[:2], "/dev/zero"], "/dev/zero: cannot be read (not a file); name a column file"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(home: Path, arguments: list[str], message: str) -> None:
    before = sorted(home.rglob("*"))
    status, out, err = run("init", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert sorted(home.rglob("*")) == before


def test_a_recipe_is_written_over_only_with_replace(home: Path) -> None:
    assert run("init", "my", *FILES)[0] == 0
    text = Path("pipelines/my.toml").read_text("utf-8")
    status, _, err = run("init", "my", *FILES, "--source", "es")
    assert (status, Path("pipelines/my.toml").read_text("utf-8")) == (2, text)
    assert err == ("backattn: pipelines/my.toml: exists already; choose another name, or pass --replace\n")
    # A link is replaced, not followed.
    Path("victim").write_text("mine")
    Path("pipelines/my.toml").unlink()
    Path("pipelines/my.toml").symlink_to("../victim")
    assert run("init", "my", *FILES)[0] == 2
    assert run("init", "my", *FILES, "--replace")[0] == 0
    assert (Path("victim").read_text(), Path("pipelines/my.toml").read_text("utf-8")) == ("mine", text)
    assert run("init", "es", *FILES, "--replace")[0] == 0
    assert load_recipe("es").corpus.train == "my.train"
    assert (PACKAGED / "es.toml").read_text("utf-8").startswith("# Spanish")


def test_one_file_is_split_and_its_parts_are_kept(home: Path) -> None:
    source = one_file()
    status, out, _ = run("init", "my", str(source), "--split", "80,10,10")
    assert status == 0
    assert "  split    by sentences, equal sentences on one side, the same each time" in out.split("\n")
    corpus = read_corpus(load_recipe("my").corpus)
    assert [len(sentences) for _, sentences in corpus.splits()] == [32, 4, 4]
    parts = {split: Path(f"data/my/{split}.conll").read_bytes() for split in SPLITS}
    Path("pipelines/my.toml").unlink()
    status, _, err = run("init", "my", str(source), "--split", "80,10,10")
    assert (status, "data/my/train.conll: exists already; " in err) == (2, True)
    assert run("init", "my", str(source), "--split", "80,10,10", "--replace")[0] == 0
    assert parts == {split: Path(f"data/my/{split}.conll").read_bytes() for split in SPLITS}


def two_words(n: int) -> tuple[str, str]:
    return f"Anna{n}", f"Köln{n % 7}"


def rows(separator: str, tags: tuple[str, str, str], *, before: str = "", columns: str = "") -> str:
    """A column file: a person of two words sings, in a town in every other sentence."""
    found = []
    for n in range(60):
        name, town = two_words(n)
        words = [(name, tags[0]), ("Ruiz", tags[1]), ("singt", "O"), (town, tags[2] if n % 2 else "O")]
        lines = [separator.join(filter(None, (word, columns, tag))) for word, tag in words]
        found.append(before.format(n) + "\n".join(lines) + "\n\n")
    return "".join(found)


def numbered(text: str) -> str:
    """A column file as CoNLL-U: ids, a range before the first token, an empty node after the last."""
    sentences = []
    for number, block in enumerate(text.strip().split("\n\n")):
        lines = [f"{place}\t{line}" for place, line in enumerate(block.split("\n"), 1)]
        inside = ["1-2\tAnnaRuiz\t_", *lines, f"{len(lines)}.1\tdort\t_"]
        sentences.append(f"# sent_id = {number}\n" + "\n".join(inside) + "\n\n")
    return "".join(sentences)


IOB2_TAGS, PREFIXED = ("B-PER", "I-PER", "B-LOC"), rows("\t", ("B-PER", "I-PER", "B-LOC"))
SPANS = [
    {
        "text": f"{name} Ruiz singt. Er ist in {town}.",
        "spans": [[0, len(name) + 5, "PER"], [len(name) + 23, len(name) + 23 + len(town), "LOC"]],
    }
    for name, town in map(two_words, range(60))
]
TOKENS = [
    {"words": [name, "Ruiz", town], "tags": ["B-PER", "I-PER", "B-LOC"], "id": number}
    for number, (name, town) in enumerate(map(two_words, range(60)))
]
FORMS: dict[str, bytes] = {
    "iob2.tsv": PREFIXED.encode(),
    "bioes.conll": rows("\t", ("B-PER", "E-PER", "S-LOC")).encode(),
    "iob1.conll": rows(" ", ("I-PER", "I-PER", "I-LOC")).encode(),
    "bilou.conll": rows(" ", ("B-PER", "L-PER", "U-LOC")).encode(),
    "bare.conll": rows(" ", ("PER", "PER", "LOC")).encode(),
    "untyped.conll": rows("\t", ("B", "I", "B")).encode(),
    "orphans.conll": rows("\t", ("B-PER", "I-PER", "I-LOC")).encode(),
    "four.conll": rows(" ", IOB2_TAGS, columns="_ NN").encode(),
    "latin.conll": rows("\t", IOB2_TAGS).encode("iso-8859-1"),
    "sixteen.conll": rows("\t", IOB2_TAGS).encode("utf-16"),
    "mark.conll": PREFIXED.encode("utf-8-sig"),
    "windows.conll": PREFIXED.replace("\n", "\r\n").encode(),
    "cut.conll": PREFIXED.rstrip("\n").encode(),
    "comments.conll": rows("\t", IOB2_TAGS, before="# sentence {}\n").encode(),
    "documents": rows(" ", IOB2_TAGS, before="-DOCSTART- O\n\n").encode(),
    "packed.conll.gz": gzip.compress(PREFIXED.encode()),
    "ids.conllu": numbered(PREFIXED).encode(),
    "spans.jsonl": "\n".join(map(json.dumps, SPANS)).encode(),
    "tokens.jsonl": "\n".join(map(json.dumps, TOKENS)).encode(),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_parts_of_a_file_have_its_form(home: Path, name: str) -> None:
    """The recipe reads the parts and the file itself; together they are its sentences, line for line."""
    Path(name).write_bytes(FORMS[name])
    whole = detect([Path(name)], "de")
    status, _, err = run("init", "my", name, "--split", "80,10,10", "--source", "de")
    assert status == 0, err
    recipe = load_recipe("my").corpus
    assert recipe.format == whole.format
    assert parse_file(Path(name), recipe.format) == whole.files[0]
    parts = [parse_file(data_path(getattr(recipe, split)), recipe.format) for split in SPLITS]
    assert all(part.sentences for part in parts)
    of_parts = Counter(sentence for part in parts for sentence in part.sentences)
    assert of_parts == Counter(whole.files[0].sentences)
    for count in ("documents", "orphans", "comments"):
        assert sum(getattr(part, count) for part in parts) == getattr(whole.files[0], count)
    data = gzip.decompress(FORMS[name]) if name.endswith(".gz") else FORMS[name]
    encoding = getattr(whole.format, "encoding", "utf-8")
    texts = [data_path(getattr(recipe, split)).read_bytes().decode(encoding) for split in SPLITS]
    lines = Counter(line for line in data.decode(encoding).splitlines() if line.strip())
    assert Counter(line for text in texts for line in text.splitlines() if line.strip()) == lines


@pytest.mark.parametrize(
    ("tags", "spelled"),
    [
        (
            ("B_PER", "I_PER", "B_LOC"),
            "B_PER, I_PER, B_LOC, expected B-PER, I-PER, B-LOC: prefix, hyphen, type",
        ),
        (("PER-B", "PER-I", "LOC-B"), "PER-B, PER-I, LOC-B, expected B-PER, I-PER, B-LOC"),
    ],
    ids=str,
)
def test_prefixes_in_another_spelling_are_refused(
    home: Path, tags: tuple[str, str, str], spelled: str
) -> None:
    """They would be read as types without a prefix, two or three for each."""
    Path("own.conll").write_text(rows("\t", tags))
    Path("own.jsonl").write_text(json.dumps({"words": list("abcdef"), "tags": [*tags, "O", "O", "O"]}))
    for name, column in (("own.conll", "column 1"), ("own.jsonl", 'the field "tags"')):
        status, out, err = run("init", "my", name, "--split", "80,10,10")
        assert (status, out) == (2, "")
        assert f"{name}: {column} holds the tags {spelled}" in err
        assert not Path("pipelines").exists()


def test_the_users_own_file_is_scored_after_a_split(home: Path) -> None:
    """By the command: what was refused while the parts had another scheme than the file."""
    Path("own.conll").write_bytes(FORMS["four.conll"])
    assert run("init", "my", "own.conll", "--split", "80,10,10")[0] == 0
    small = ["--set", "tagger.epochs=1", "--set", "tagger.hidden=4"]
    assert run("train", "my", "--inputs", "words", "--seeds", "1", *small)[0] == 0
    status, out, err = run("evaluate", "my", "--best", "own.conll")
    assert (status, "own.conll" in out) == (0, True), err


def test_the_file_that_is_split_is_never_written_over(home: Path) -> None:
    Path("data/my").mkdir()
    train = one_file().rename("data/my/train.tsv")
    Path("linked.tsv").symlink_to(train)
    for name in (str(train), "linked.tsv"):
        status, _, err = run("init", "my", name, "--split", "80,10,10", "--replace")
        assert (status, "a part would be written over the file that is split" in err) == (2, True)
    assert len(train.read_text().split("\n\n")) == 41
    # Nor does a folder that is a link lead elsewhere.
    Path("elsewhere").mkdir()
    Path("data/other").symlink_to("../elsewhere")
    assert run("init", "other", str(train), "--split", "80,10,10")[0] == 2
    assert not list(Path("elsewhere").iterdir())


def test_paths_are_named_so_that_the_recipe_finds_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the data by their names there, elsewhere whole; through links and with TOML's own signs."""
    strange = home / 'a"b\\c\n[corpus]#\u202e'
    strange.mkdir()
    (home / "link").symlink_to(strange)
    for number, name in enumerate(FILES):
        (strange / f"{number}").write_bytes(Path(name).read_bytes())
    status, out, _ = run("init", "my", f"{strange}/0", "link/../link/1", "data/../data/my.test")
    assert (status, "\u202e" in out) == (0, False)
    recipe = load_recipe("my").corpus
    assert recipe.train == f"{strange}/0"
    assert recipe.test == "my.test"
    assert [s.tokens[0] for s in read_corpus(recipe).dev] == ["Carl", "Köln"]
    text = Path("pipelines/my.toml").read_text("utf-8")
    assert "\u202e" not in text
    monkeypatch.setenv("BACKATTN_DATA", str(strange))
    assert run("init", "far", f"{strange}/0", f"{strange}/1", f"{strange}/2")[0] == 0
    assert load_recipe("far").corpus.train == "0"
    (strange / "${HOME}").write_text(TRAIN)
    status, _, err = run("init", "var", f"{strange}/${{HOME}}", f"{strange}/1", f"{strange}/2")
    assert (status, "a recipe cannot name this path (${...} stands for a variable" in err) == (2, True)
    bad = os.fsdecode(b"\xff.tsv")
    (home / bad).write_text(TRAIN)
    status, _, err = run("init", "bad", bad, *FILES[1:])
    assert (status, "a recipe cannot name this path" in err) == (2, True)


@given(st.dictionaries(st.sampled_from("abcd"), st.text(st.characters(exclude_categories=["Cs"]))))
@settings(max_examples=40, deadline=None)
def test_any_text_stays_a_value_in_toml(table: dict[str, str]) -> None:
    values = {**table, "flag": True, "number": -1, "many": list(table.values())}
    assert tomllib.loads(to_toml("about", {"x.y": values}, {"x.y": "above", "x.y.flag": "behind"})) == {
        "x": {"y": values}
    }


@given(
    kind=st.text(
        st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="\ufeff"),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_types_of_any_letters_reach_no_key_of_the_recipe(home: Path, kind: str) -> None:
    for name, text in zip(FILES, (TRAIN, DEV, TEST), strict=True):
        Path(name).write_text(text.replace("PER", kind), "utf-8")
    made = write_recipe("my", [Path(name) for name in FILES], replace=True)
    assert f"S-{kind}" in {tag for s in read_corpus(made.recipe.corpus).dev for tag in s.tags}


@pytest.mark.parametrize(
    ("source", "there", "hub"),
    [
        ("fi", ["fi", "mul"], "Helsinki-NLP/opus-mt-fi-en"),
        ("nb", ["gmq", "mul"], "Helsinki-NLP/opus-mt-gmq-en"),
        ("xyz", ["mul"], "Helsinki-NLP/opus-mt-mul-en"),
        ("zh_CN", ["zh"], "Helsinki-NLP/opus-mt-zh-en"),
        ("es", [], ""),
    ],
)
def test_online_the_hub_is_asked_and_its_commit_pinned(
    home: Path, monkeypatch: pytest.MonkeyPatch, source: str, there: list[str], hub: str
) -> None:
    with serve_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        for code in there:
            server.publish(f"Helsinki-NLP/opus-mt-{code}-en", COMMIT, home / "data")
        status, out, err = run("init", "my", *FILES, "--source", source, "--online")
    assert (status, f"the public translator {hub}" in out) == (0, bool(hub)), err
    translator = load_recipe("my").translator
    if not hub:  # what the package has
        assert translator.source == "es"
        return
    assert isinstance(translator, TransformersRecipe)
    assert (translator.hub, translator.revision, translator.source) == (hub, COMMIT, source)
    assert load_recipe("my").english_tagger.hub == "flair/ner-english"
    assert err == (
        "next: backattn features my --sentences 100 (a trial; then all), or without models: "
        "backattn train my --inputs words --seeds 1\n"
    )


def test_a_hub_that_does_not_answer_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    status, out, err = run("init", "my", *FILES, "--source", "fi", "--online")
    assert (status, out) == (2, "")
    assert err == (
        "backattn: Helsinki-NLP/opus-mt-fi-en: cannot be fetched from the hub (it cannot be reached); "
        "connect to the network and run this again, or leave out --online (a folder that you bring can be "
        "named as translator.checkpoint)\n"
    )
    assert not Path("pipelines").exists()


def test_other_forms_have_recipes_too(home: Path) -> None:
    rows = [{"words": ["Anna", "singt"], "tags": ["B-PER", "O"]}, {"words": ["Ulm"], "tags": ["B-LOC"]}]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("a.conllu").write_text("# x\n1-2\tvadanna\t_\n1\tva\tO\n2\tAnna\tB-PER\n\n1\tUlm\tB-LOC\n")
    Path("a.text").write_text(json.dumps({"text": "Anna singt.", "spans": [[0, 4, "PER"]]}))
    for name, source, lines in (
        ("a.jsonl", [], ("  form     JSON lines", "  tags     the field 'tags', IOB2")),
        ("a.conllu", [], ("  form              CoNLL-U", "  multiword ranges  passed over: 3")),
        ("a.text", ["--source", "de"], ("  tags     of the spans in 'spans'",)),
    ):
        status, out, err = run("init", "my", name, name, name, "--replace", *source)
        assert status == 0, err
        assert set(lines) <= set(out.split("\n"))
        assert read_corpus(load_recipe("my").corpus).train[-1].tags[0] in ("S-LOC", "S-PER")
