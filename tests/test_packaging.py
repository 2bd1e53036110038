"""`backattn package`: a folder that tags on another machine; what a stranger's folder may not do."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

import backattn
from backattn import cli
from backattn.packaging import package_run as module
from backattn.packaging.licences import Licensed, hub_licence, warnings
from backattn.report.markup import render_markdown
from users_folder import make_home, run

TABLES = """
[embeddings.fasttext]
vectors = "toy.vec"
licence = "CC-BY-NC-4.0"
[tagger]
hidden = 4
word_dimensions = 8
epochs = 40
learning_rate = 0.5
embeddings = ["fasttext"]
"""
CORPUS = "Anna B-PER\nsingt O\nin O\nUlm B-L<b>|*x*\n\nBen B-PER\nsingt O\n\n" * 8
WORDS = ("Anna", "Ben", "singt", "in", "Ulm")
TEXT = "Anna singt in Ulm\nBen singt neu\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("home")
        corpus = dict.fromkeys(("train", "dev", "test"), CORPUS)
        yield make_home(folder, monkeypatch, TABLES, corpus=corpus, models=())


@pytest.fixture(scope="module")
def trained(home: Path) -> str:
    """A run on words and fastText vectors."""
    rows = [f"{word} {number}.5 {number * number}.25\n" for number, word in enumerate(WORDS)]
    (home / "data/toy.vec").write_text(f"{len(rows)} 2\n" + "".join(rows))
    for line in (["features", "toy", "--only", "embeddings"],):
        status, _, err = run(*line)
        assert status == 0, err
    status, out, err = run("train", "toy", "--inputs", "words", "--seeds", "1", "--json")
    assert status == 0, err
    return str(json.loads(out)[0]["folder"])


@pytest.fixture(scope="module")
def packaged(trained: str, home: Path) -> Path:
    status, _, err = run("package", trained, "made/toy")
    assert status == 0, err
    assert err == "backattn: not for commercial use: embeddings.fasttext (CC-BY-NC-4.0)\n"
    return home / "made/toy"


@pytest.fixture
def received(packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as somebody else has it, who has no recipe, no data and no cache."""
    shutil.copytree(packaged, tmp_path / "received")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "nowhere"))
    monkeypatch.setenv("BACKATTN_DATA", str(tmp_path / "nothing"))
    return Path("received")


def tag(folder: Path | str) -> tuple[int, str, str]:
    found = CliRunner().invoke(cli.main, ["tag", str(folder), "--input", "tokens"], input=TEXT)
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.stdout, found.stderr


def refused(folder: Path | str) -> str:
    status, out, err = tag(folder)
    assert (status, out, err.count("\n")) == (2, "", 1), (status, out, err)
    return err


def rewrite(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    """Change a JSON file of a package as a stranger can, who writes its digest anew."""
    table = json.loads((folder / name).read_text())
    change(table)
    (folder / name).write_text(json.dumps(table))
    if name != "package.json":
        sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        rewrite(folder, "package.json", lambda manifest: manifest["run"].update({name: sha256}))


def test_it_tags_on_another_machine_as_on_this(
    trained: str, received: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tag(received)
    assert there[0] == 0, there[2]
    assert "Anna\tS-PER\n" in there[1]
    assert [entity.text for entity in backattn.load(received).tag("Anna singt")] == ["Anna"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["received"]  # nothing else is needed or made
    monkeypatch.chdir(home)
    monkeypatch.delenv("BACKATTN_CACHE")
    monkeypatch.delenv("BACKATTN_DATA")
    assert there == tag(trained)


def test_it_holds_no_sentence_of_the_corpus_and_no_path_of_this_machine(packaged: Path, home: Path) -> None:
    names = sorted(path.relative_to(packaged).as_posix() for path in packaged.rglob("*") if path.is_file())
    assert names == [
        "README.md", "epochs.jsonl", "models/embeddings.fasttext/toy.vec", "package.json", "recipe.json",
        "run.json", "vocabulary.json", "weights.safetensors",
    ]  # fmt: skip
    for name in names:
        assert str(home).encode() not in (packaged / name).read_bytes()
    assert [path.name for path in packaged.parent.iterdir()] == ["toy"]


def test_the_card_is_what_the_hub_reads_and_its_figures_are_the_runs(packaged: Path, trained: str) -> None:
    text = (packaged / "README.md").read_text("utf-8")
    card = ModelCard(text)
    scores = json.loads((Path(trained) / "run.json").read_text())
    assert (card.data.language, card.data.license, card.data.library_name) == ("de", "other", "backattn")
    found = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
    for split in ("dev", "test"):
        assert found[split, "f1"] == round(scores[split]["overall"]["f1"], 4)
    for name, counts in scores["test"]["types"].items():
        rows = [line for line in text.splitlines() if line.startswith("| PER" if name == "PER" else "| L\\<")]
        assert f"{100 * counts['f1']:.2f} (" in rows[-1]  # of test
    assert scores["test"]["overall"]["f1"] > 0
    assert "CC-BY-NC-4.0 | not for commercial use |" in text
    assert "pip install 'backattn'\n" in text  # the bare wheel does
    assert hashlib.sha256((packaged / "models/embeddings.fasttext/toy.vec").read_bytes()).hexdigest() in text


def test_foreign_text_in_the_card_is_no_markup(packaged: Path) -> None:
    """Read by another library: a type of the corpus that is HTML, a cell and emphasis stays text."""
    body = (packaged / "README.md").read_text("utf-8").split("---\n", 2)[2]
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    inside = [child for token in tokens for child in token.children or ()]
    assert "L<b>|*x*" in {child.content for child in inside if child.type == "text"} | {
        "".join(child.content for child in token.children or () if child.type.startswith("text"))
        for token in tokens
    }
    assert not [t for t in (*tokens, *inside) if t.type.startswith("html")]
    hostile = "\x1b[31m</td>|`a`\n# b\n---\n[x](javascript:1) ![y](z) **c** &lt; {{ d }} \u202e"
    made = render_markdown("model_card.md.j2", **_values(hostile))
    front, body = made.split("\n---\n", 1)
    assert yaml.safe_load(front.removeprefix("---\n")) == {"a": "b"}
    parsed = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    kinds = {child.type for token in parsed for child in token.children or ()}
    assert kinds <= {"text", "text_special", "softbreak", "code_inline", "link_open", "link_close",
                     "strong_open", "strong_close"}  # fmt: skip
    links = [c.attrs["href"] for t in parsed for c in t.children or () if c.type == "link_open"]
    assert links == ["https://arxiv.org/abs/1906.01183"]
    assert not re.search("[\x1b\u202e]", made)


def _values(text: str) -> dict[str, object]:
    from markupsafe import Markup

    row = dict.fromkeys(
        ("name", "f1", "precision", "recall", "support", "file", "common", "key", "sha256", "where"), text
    )
    score = {"split": text, "sentences": text, "rows": [row]}
    part = Licensed(text, text)
    return {
        **dict.fromkeys(
            ("name", "lang", "language", "model", "failure", "extras", "source", "sentences", "inputs",
             "seed", "best_epoch", "epochs", "settings", "version", "commit", "resamples",
             "signature"), text),
        **{name: [text, text] for name in ("types", "restricted", "pickles", "versions")},
        "front_matter": Markup('a: "b"'), "transfer": True, "settings": Markup("{}"), "extras": Markup(""),
        "statistics": {"splits": [text], "rows": [(text, [text])]}, "scores": [score, score],
        "others": [row], "models": [row], "licences": [part],
    }  # fmt: skip


def test_trained_vectors_are_packaged_as_those_of_others_are(
    trained: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie below the cache, and not below the data."""
    monkeypatch.chdir(home)
    (home / "cache/own/vectors").mkdir(parents=True)
    shutil.copy(home / "data/toy.vec", home / "cache/own/vectors/vectors.bin")
    own = ["--set", 'embeddings.fasttext={ checkpoint = "own/vectors" }']
    status, out, err = run("train", "toy", "--inputs", "words", "--seeds", "2", "--json", *own)
    assert status == 0, err
    folder = home / json.loads(out)[0]["folder"]
    expected = tag(folder)
    assert expected[0] == 0, expected[2]
    for how in ("copy", "names"):
        status, _, err = run("package", str(folder), str(tmp_path / how), "--models", how)
        assert status == 0, err
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BACKATTN_DATA", str(tmp_path / "data"))
    assert tag(tmp_path / "copy") == expected
    assert "put vectors.bin with sha256 " in refused(tmp_path / "names")
    shutil.copytree(home / "cache/own", tmp_path / "cache/own")
    assert tag(tmp_path / "names") == expected


def test_names_and_digests_in_place_of_models(
    trained: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very file is wanted, in its place below the folders of the other machine."""
    monkeypatch.chdir(home)
    expected = tag(trained)
    assert run("package", trained, str(tmp_path / "named"), "--models", "names")[0] == 0
    assert not (tmp_path / "named/models").exists()
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BACKATTN_DATA", str(tmp_path / "data"))
    sha256 = hashlib.sha256((home / "data/toy.vec").read_bytes()).hexdigest()
    assert f"put toy.vec with sha256 {sha256} there, below BACKATTN_DATA" in refused(tmp_path / "named")
    (tmp_path / "data").mkdir()
    shutil.copy(home / "data/toy.vec", tmp_path / "data")
    assert tag(tmp_path / "named") == expected
    (tmp_path / "data/toy.vec").write_text("1 2\nAnna 1 1\n")
    assert "toy.vec: sha256 is " in refused(tmp_path / "named")


def _link(folder: Path) -> None:
    (folder / "vocabulary.json").unlink()
    (folder / "vocabulary.json").symlink_to("/etc/hostname")


def _linked_model(folder: Path) -> None:
    place = folder / "models/embeddings.fasttext"
    shutil.rmtree(place)
    place.symlink_to("/tmp")


def _stray(folder: Path) -> None:
    (folder / "models/embeddings.fasttext/joint.model").write_text("x")


def _changed(folder: Path) -> None:
    path = folder / "models/embeddings.fasttext/toy.vec"
    path.write_text(path.read_text().replace("0.5", "0.6"))


def _weights(folder: Path) -> None:
    with (folder / "weights.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")


def _model(**values: object) -> Callable[[Path], None]:
    def change(manifest: dict) -> None:
        manifest["models"]["embeddings.fasttext"].update(values)

    return lambda folder: rewrite(folder, "package.json", change)


def _key(folder: Path) -> None:
    def change(manifest: dict) -> None:
        manifest["models"]["../../../etc"] = manifest["models"].pop("embeddings.fasttext")

    rewrite(folder, "package.json", change)


def _gone(folder: Path) -> None:
    (folder / "models/embeddings.fasttext/toy.vec").unlink()


DIGEST = "0" * 64
ATTACKS = {
    "a link": (_link, r"vocabulary\.json: is a link, a pipe or a device, which no package has"),
    "a linked folder": (_linked_model, r"embeddings\.fasttext: is a link"),
    "a pipe": (lambda folder: os.mkfifo(folder / "x"), r"x: is a link, a pipe or a device"),
    "a file beside a model": (_stray, r"holds 'models/embeddings\.fasttext/joint\.model', which"),
    "a changed model": (_changed, r"toy\.vec: sha256 is .*, but package\.json says .*: damaged or changed"),
    "changed weights": (_weights, r"weights\.safetensors: sha256 is .*: damaged or changed"),
    "no model": (_gone, r"toy\.vec: missing in this package; get the package anew"),
    "a file elsewhere": (
        _model(files={"../../../../../etc/passwd": DIGEST}), r"expected names of files without a folder"),
    "an absolute file": (_model(files={"/etc/passwd": DIGEST}), r"expected names of files without a folder"),
    "a place elsewhere": (
        _model(below="BACKATTN_DATA", place="../secret"), r"expected folders without \.\. and \$\{\}"),
    "an absolute place": (_model(below="BACKATTN_DATA", place="/etc"), r"expected folders without"),
    "a place by a variable": (_model(below="BACKATTN_DATA", place="${HOME}"), r"expected folders without"),
    "a table elsewhere": (_key, r"package\.json: models"),
    "files that are not listed": (
        lambda folder: rewrite(folder, "package.json", lambda it: it.update(run={})), r"does not list"),
    "no manifest": (lambda folder: (folder / "package.json").write_text("[]"), r"package\.json: damaged"),
    "another format": (
        lambda folder: rewrite(folder, "package.json", lambda it: it.update(format=2)), r"format: "),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_strangers_package_is_refused_in_one_line(received: Path, attack: str) -> None:
    change, message = ATTACKS[attack]
    change(received)
    assert re.search(message, refused(received)), refused(received)


@pytest.mark.parametrize("path", ["/proc/kcore", "../../secret.vec", "${HOME}/secret.vec"])
def test_the_paths_of_its_recipe_are_not_followed(received: Path, path: str) -> None:
    """Not one of them: the models are those of the package."""
    expected = tag(received)

    def change(recipe: dict) -> None:
        recipe["embeddings"]["fasttext"]["vectors"] = path
        recipe["embeddings"]["bert"] = {"checkpoint": path}
        recipe["translator"]["checkpoint"] = recipe["english"]["checkpoint"] = path
        recipe["corpus"]["train"] = path

    rewrite(received, "recipe.json", change)
    opened: list[str] = []
    sys.addaudithook(lambda event, values: opened.append(str(values[0])) if event == "open" else None)
    assert tag(received) == expected
    assert not [name for name in opened if name.endswith(("kcore", "secret.vec", "config.json"))]
    trained_one = {"checkpoint": path, "training": {}}
    rewrite(received, "recipe.json", lambda recipe: recipe["embeddings"].update(fasttext=trained_one))
    assert tag(received) == expected
    rewrite(received, "recipe.json", lambda recipe: recipe["tagger"].update(embeddings=["fasttext", "bert"]))
    assert "models/embeddings.bert" in refused(received)


def test_a_folder_whose_name_is_a_variable(received: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received.rename("${HOME}")
    assert "rename it" in refused("${HOME}")


def test_a_pickle_of_a_package_has_no_voucher(received: Path) -> None:
    """Its digests are the stranger's own: T of a run that reads a pickle is refused before it is opened."""
    recipe = json.loads((received / "recipe.json").read_text())
    folder = received / "models/english"
    folder.mkdir()
    (folder / "tagger.pt").write_bytes(b"cos\nsystem\n(S'touch harm'\ntR.")
    sha256 = hashlib.sha256((folder / "tagger.pt").read_bytes()).hexdigest()
    rewrite(
        received, "package.json", lambda it: it["models"].update(english={"files": {"tagger.pt": sha256}})
    )
    recipe["translator"] = {"kind": "copy", "source": "de"}
    recipe["english"] = {"kind": "flair", "checkpoint": "x", "sha256": sha256}
    rewrite(received, "recipe.json", lambda it: it.update(recipe))
    from backattn.features.pipeline import require_usable
    from backattn.features.plan import make_plan
    from backattn.models.package_folder import open_package
    from backattn.models.vouchers import NOBODY
    from backattn.recipe import from_json
    from fakes import make_corpus

    package = open_package(received)
    assert package is not None
    resolved = package.recipe(from_json(recipe, "recipe"))
    stage = make_plan(resolved, make_corpus(["a"])).transfer
    with pytest.raises(module.ModelError, match="a flair file is a pickle and can run code"):
        require_usable([stage], resolved, NOBODY)
    assert not Path("harm").exists()


class TestTarget:
    """Where the folder is put."""

    @pytest.fixture(autouse=True)
    def here(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(home)

    def error(self, *arguments: str) -> str:
        status, out, err = run("package", *arguments)
        assert (status, out) == (2, ""), err
        return err

    def test_inside_and_around_the_run(self, trained: str) -> None:
        for place in (trained, f"{trained}/made", str(Path(trained).parent), f"{trained}/../x/../made/.."):
            assert "lies in the run" in self.error(trained, place, "--replace")
        assert Path(trained, "run.json").is_file()

    def test_what_is_there_stays(self, trained: str, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.mkdir()
        (target / "mine").touch()
        assert "is there already; add --replace" in self.error(trained, str(target))
        assert "is no packaged run (no package.json)" in self.error(trained, str(target), "--replace")
        (target / "package.json").symlink_to("mine")
        assert "is no packaged run" in self.error(trained, str(target), "--replace")
        (tmp_path / "link").symlink_to(target)
        assert "is a link" in self.error(trained, str(tmp_path / "link"), "--replace")
        assert sorted(path.name for path in target.iterdir()) == ["mine", "package.json"]

    def test_a_package_is_replaced_and_packaged_no_second_time(
        self, trained: str, packaged: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(packaged, tmp_path / "old")
        (tmp_path / "old/README.md").write_text("an older card")
        assert run("package", trained, str(tmp_path / "old"), "--replace")[0] == 0
        assert (tmp_path / "old/README.md").read_text() == (packaged / "README.md").read_text()
        assert "is a packaged run already" in self.error(str(packaged), str(tmp_path / "second"))

    @pytest.mark.parametrize("text", ['{"name": "app", "version": "1.0.0"}', "{", "[]", '{"format": 1}'])
    def test_the_project_of_another_program_stays(self, trained: str, tmp_path: Path, text: str) -> None:
        """A package.json is npm's as well."""
        (tmp_path / "app/source").mkdir(parents=True)
        (tmp_path / "app/package.json").write_text(text)
        (tmp_path / "app/source/main.js").write_text("mine")
        told = self.error(trained, str(tmp_path / "app"), "--replace")
        assert "is no packaged run, and is not replaced" in told
        assert (tmp_path / "app/source/main.js").read_text() == "mine"
        assert (tmp_path / "app/package.json").read_text() == text

    @pytest.mark.parametrize("name", [".git/HEAD", "notes.txt", "models/more.safetensors", "link", "links"])
    def test_what_a_user_put_into_a_package_stays(
        self, trained: str, packaged: Path, tmp_path: Path, name: str
    ) -> None:
        target = tmp_path / "target"
        shutil.copytree(packaged, target)
        (target / name).parent.mkdir(exist_ok=True)
        if name.startswith("link"):
            (target / name).symlink_to(tmp_path if name == "links" else target / "README.md")
        else:
            (target / name).write_text("mine")
        told = self.error(trained, str(target), "--replace")
        assert f"holds '{name}', which no package does, and is not replaced; move that away" in told
        assert os.path.lexists(target / name)

    def test_too_large(self, trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_BYTES", 10)
        assert "with --models names the folder holds their names" in self.error(trained, str(tmp_path / "x"))
        assert not list(tmp_path.iterdir())

    def test_a_path_that_no_other_machine_has(self, trained: str, tmp_path: Path) -> None:
        copy = tmp_path / "cache/toy/runs/copy"
        shutil.copytree(trained, copy)
        recipe = json.loads((copy / "recipe.json").read_text())
        recipe["embeddings"]["fasttext"]["vectors"] = str(Path("data/toy.vec").absolute())
        (copy / "recipe.json").write_text(json.dumps(recipe))
        err = self.error(str(copy), str(tmp_path / "x"), "--models", "names")
        assert "--models names: the recipe names " in err
        assert run("package", str(copy), str(tmp_path / "x"))[0] == 0

    def test_other_predictions_than_were_scored(self, trained: str, tmp_path: Path) -> None:
        shutil.copytree(trained, tmp_path / "run")
        path = tmp_path / "run/predictions.test.tsv"
        path.write_text(path.read_text().replace("B-PER", "O").replace("S-PER", "O"))
        assert "predictions.test.tsv is not what run.json scores" in self.error(
            str(tmp_path / "run"), "made/x"
        )

    @pytest.mark.slow
    def test_a_killed_command_leaves_no_half(self, trained: str, tmp_path: Path) -> None:
        """Killed in the middle of the copying; the next one clears what it has left."""
        code = (
            "import os, signal\n"
            "from backattn.packaging import package_run as module\n"
            "from pathlib import Path\n"
            "copy = module._copy\n"
            "def killed(source, target, sha256):\n"
            "    if target.name == 'toy.vec': os.kill(os.getpid(), signal.SIGKILL)\n"
            "    copy(source, target, sha256)\n"
            "module._copy = killed\n"
            f"module.package_run(Path({trained!r}), Path({str(tmp_path / 'made')!r}))\n"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
        (left,) = tmp_path.iterdir()
        assert left.name.endswith(".partial")
        assert run("package", trained, str(tmp_path / "made"))[0] == 0
        assert [path.name for path in tmp_path.iterdir()] == ["made"]

    @pytest.mark.slow
    def test_a_disk_that_refuses(self, trained: str, tmp_path: Path) -> None:
        """The system itself refuses the last bytes of the weights."""
        code = (
            "import resource, signal, sys\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
            "from backattn.cli import main\n"
            f"main(['package', {trained!r}, {str(tmp_path / 'made')!r}])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert re.fullmatch(
            r"backattn: .*made: cannot be written \(.*\); free space or fix the folder\n", done.stderr
        )
        assert not list(tmp_path.iterdir())


def test_what_licences_forbid() -> None:
    parts = [Licensed("a", "CC-BY-NC-ND-4.0"), Licensed("b", "research only"), Licensed("c", "LDC94T5"),
             Licensed("d", "MIT"), Licensed("e", "unknown")]  # fmt: skip
    assert warnings(parts) == (
        "not for commercial use: a (CC-BY-NC-ND-4.0); b (research only)",
        "not to be passed on when changed, as by training on it: a (CC-BY-NC-ND-4.0)",
        "not to be passed on: c (LDC94T5)",
    )
    assert parts[3].restrictions == ()
    assert parts[4].restrictions == ("not known: ask who made it before you pass it on",)
    assert hub_licence([Licensed("a", "CC-BY-4.0")]) == "cc-by-4.0"
    assert hub_licence(parts) == hub_licence([Licensed("a", "our own")]) == "other"
    assert hub_licence([Licensed("a", "unknown: ask")]) == "unknown"
