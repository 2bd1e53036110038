"""Training fastText vectors: one text and seed, one file; gensim's own vectors; kills, refusals, coverage."""

import gzip
import json
import os
import random
import re
from collections import Counter
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gensim")

from gensim.models.fasttext import load_facebook_vectors
from msgspec import structs

from backattn.common.digests import file_digest
from backattn.common.errors import BackattnError, CorpusError, MissingError, ModelError, RecipeError
from backattn.corpus import Sentence
from backattn.embeddings.fasttext_binary import open_fasttext
from backattn.features.pipeline import load_embedder
from backattn.features.plan import make_plan
from backattn.models.vouchers import NOBODY
from backattn.recipe import FastTextTraining, Recipe, as_json, from_json
from backattn.training.vectors import gensim_trainer
from backattn.training.vectors import train as module
from backattn.training.vectors.gensim_trainer import Vectors
from backattn.training.vectors.train import VectorsReport, coverage, train_vectors
from bounds import bounded
from fakes import make_corpus
from users_folder import run

GROUPS = (["köln", "bonn", "Ulm"], ["rot", "grün", "blau"], ["eins", "zwei", "drei"])
TRAINING = {"dimensions": 12, "epochs": 3, "buckets": 300, "min_count": 3}


def text(lines: int, seed: int) -> list[str]:
    """Sentences whose words are of one group each."""
    generator = random.Random(seed)
    return [" ".join(generator.choices(generator.choice(GROUPS), k=6)) for _ in range(lines)]


def columns(folder: Path, name: str, sentences: list[str]) -> str:
    path = folder / name
    path.write_text("\n".join("".join(f"{w} O\n" for w in s.split()) for s in sentences), "utf-8")
    return str(path)


def write_recipe(folder: Path, **training: object) -> Recipe:
    corpus = {
        "train": columns(folder, "train", [*text(20, 1), "Seltenes Wort"]),
        "dev": columns(folder, "dev", ["köln KÖLN fremd", "Das hier steht allein"]),
        "test": columns(folder, "test", text(2, 9)),
        "source": "here",
    }
    pairs = [f"{line}\tin English {number}" for number, line in enumerate(text(120, 2))]
    repeated = [*pairs, *pairs[:20], "Das hier steht allein\tof dev"]
    (folder / "pairs.tsv").write_text("\n".join(repeated) + "\n", "utf-8")
    (folder / "more.txt").write_text("\n".join(text(60, 3)) + "\n\n", "utf-8")
    pair = {"path": str(folder / "pairs.tsv")}
    files = [{"path": str(folder / "more.txt")}]
    tables = {
        "name": "toy", "corpus": corpus,
        "translator": {
            "kind": "fairseq", "checkpoint": "none", "source": "de",
            "training": {"parallel": [pair], "valid": pair, "test": pair},
        },
        "embeddings": {
            "fasttext": {"checkpoint": "toy/vectors", "training": {**TRAINING, "files": files, **training}}
        },
        "tagger": {"embeddings": ["fasttext"]},
    }  # fmt: skip
    return from_json(tables, "toy")


def train(recipe: Recipe, folder: Path, **options: object) -> VectorsReport:
    settings = {"threads": None, "progress": False, **options}
    return train_vectors(recipe, folder=folder, **settings)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def recipe(home: Path) -> Recipe:
    return write_recipe(home)


@pytest.fixture(scope="module")
def whole(recipe: Recipe, home: Path) -> VectorsReport:
    """A training that nothing stopped."""
    return train(recipe, home / "vectors")


def test_the_readers_vectors_are_the_librarys(whole: VectorsReport) -> None:
    """Of words of the vocabulary and of others, by gensim's own reader of the same file."""
    path = whole.folder / "vectors.bin"
    library = load_facebook_vectors(str(path))
    words = [*library.key_to_index, "kölnisch", "grünlich", "漢字", "x", "Düsseldorf"]
    (found,) = open_fasttext(path).embed([tuple(words)])
    np.testing.assert_allclose(found, np.stack([library[word] for word in words]), atol=1e-6)
    assert np.linalg.norm(found, axis=1).all()


def test_words_that_stand_together_are_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without leaving out frequent words, which are all of so few; the n-grams of a letter say nothing."""
    monkeypatch.setattr(gensim_trainer, "_SAMPLE", 0)
    training = FastTextTraining(dimensions=12, epochs=5, buckets=3000, learning_rate=0.2)
    vectors = Vectors([line.split() for line in text(400, 5)], training, 1)
    for epoch in range(5):
        vectors.train_epoch(epoch)
    vectors.write(tmp_path / "toy.bin")
    (found,) = open_fasttext(tmp_path / "toy.bin").embed([tuple(word for words in GROUPS for word in words)])
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    near = unit @ unit.T
    within = [near[i, j] for g in range(3) for i, j in combinations(range(3 * g, 3 * g + 3), 2)]
    across = [near[i, j] for i, j in product(range(3), range(3, 9))]
    assert np.mean(within) > np.mean(across) + 0.3


def test_the_report_counts_what_was_read_and_what_is_covered(recipe: Recipe, whole: VectorsReport) -> None:
    words = [line.split() for line in [*text(20, 1), *set(text(120, 2)), *text(60, 3)]]
    counts = Counter(word for line in words for word in line)
    pairs, more = whole.files[1], whole.files[0]
    assert (more.lines, more.kept, more.empty) == (61, 60, 1)
    unique = len(set(text(120, 2)))
    assert (pairs.lines, pairs.kept, pairs.held_out) == (unique + 1, unique, 1)
    assert (whole.sentences, whole.tokens) == (len(words) + 1, counts.total() + 2)
    assert (whole.words, whole.rare, whole.threads) == (9, 2, 1)
    dev = whole.coverage["dev"]
    assert (dev.known_tokens, dev.tokens, dev.known_types, dev.types) == (2, 7, 2, 7)  # KÖLN as köln
    told = whole.to_text()
    assert "9 words in the vocabulary; 2 are too rare for it and have n-grams only" in told
    assert "in the vocabulary of dev: 28.6% of 7 tokens, 28.6% of 7 types" in told
    assert "in the vocabulary of test: 100.0% of 12 tokens" in told
    manifest = json.loads((whole.folder / "training.json").read_text("utf-8"))
    assert manifest["files"] == {"vectors.bin": file_digest(whole.folder / "vectors.bin")}
    assert manifest["report"] == json.loads(json.dumps(whole.to_json()))


def test_coverage_counts_each_token_and_each_type() -> None:
    sentences = [Sentence(tuple(line.split()), ("O",) * len(line.split())) for line in ("a b a", "B 17 c")]
    found = coverage(sentences, {"a", "b", "00"})
    assert (found.tokens, found.known_tokens, found.types, found.known_types) == (6, 5, 5, 4)
    assert coverage([], set()).to_text() == "0.0% of 0 tokens, 0.0% of 0 types"


def test_one_seed_gives_one_file_and_another_seed_another(
    recipe: Recipe, whole: VectorsReport, tmp_path: Path, home: Path
) -> None:
    before = (whole.folder / "training.json").stat().st_mtime_ns
    assert train(recipe, home / "vectors") == whole  # nothing to do
    assert (whole.folder / "training.json").stat().st_mtime_ns == before
    assert file_digest(train(recipe, tmp_path / "again").folder / "vectors.bin") == file_digest(
        whole.folder / "vectors.bin"
    )
    tables = as_json(recipe)
    tables["embeddings"]["fasttext"]["training"]["seed"] = 2
    other = from_json(tables, "toy")
    with pytest.raises(
        RecipeError, match=r"other settings or data \(training\.seed: 1, now 2\), .*--replace"
    ):
        train(other, tmp_path / "again")
    replaced = train(other, tmp_path / "again", replace=True).folder / "vectors.bin"
    assert file_digest(replaced) != file_digest(whole.folder / "vectors.bin")


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_killed_training_ends_with_the_same_file(
    recipe: Recipe, whole: VectorsReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    real = Vectors.train_epoch

    def killed(self: Vectors, epoch: int) -> None:
        if epoch == done:
            raise KeyboardInterrupt
        real(self, epoch)

    folder = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(Vectors, "train_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, folder)
    assert not folder.exists()
    left = sorted(path.name for path in folder.with_name("killed.work").glob("*.safetensors"))
    assert left == [f"epoch{epoch}.safetensors" for epoch in range(max(1, done - 1), done + 1)]
    began = []
    with monkeypatch.context() as patch:
        patch.setattr(Vectors, "train_epoch", lambda self, epoch: (began.append(epoch), real(self, epoch)))
        train(recipe, folder)
    assert began == list(range(done, 3))
    assert file_digest(folder / "vectors.bin") == file_digest(whole.folder / "vectors.bin")
    assert not folder.with_name("killed.work").exists()


def test_a_damaged_epoch_is_refused(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Vectors.train_epoch

    def killed(self: Vectors, epoch: int) -> None:
        if epoch == 1:
            raise KeyboardInterrupt
        real(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Vectors, "train_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "vectors")
    epoch = tmp_path / "vectors.work/epoch1.safetensors"
    other = Vectors([["x", "y"]] * 9, recipe.embeddings.fasttext.training, 1)  # type: ignore[union-attr, arg-type]
    for data, message in (
        (b"\x80\x04junk", "not the numbers of a training"),
        (epoch.read_bytes()[:-1], "not the numbers of a training"),
        (other.dump(), "holds the vectors of another text or of other settings"),
    ):
        epoch.write_bytes(data)
        with pytest.raises(ModelError, match=rf"epoch1\.safetensors: {message}.*delete .*to train anew"):
            train(recipe, tmp_path / "vectors")
    epoch.unlink()
    with pytest.raises(MissingError, match=r"epoch1\.safetensors: an epoch's model is not there"):
        train(recipe, tmp_path / "vectors")


def test_a_training_that_diverges_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path)

    def diverge(self: Vectors, epoch: int) -> None:
        self._model.wv.vectors_ngrams[3, 1] = np.nan

    monkeypatch.setattr(Vectors, "train_epoch", diverge)
    with pytest.raises(ModelError, match=r"diverged \(a number is not finite\); lower the learning_rate"):
        train(recipe, tmp_path / "vectors")
    assert not (tmp_path / "vectors").exists()


def test_the_identity_holds_what_is_read_and_no_label(recipe: Recipe) -> None:
    def request(**changes: object) -> dict[str, object]:
        purpose = module.Purpose(corpus=made, language="de", unit="word", key="k")
        own = recipe.embeddings.fasttext.training  # type: ignore[union-attr]
        return module.make_request(structs.replace(recipe, **changes), own, purpose)  # type: ignore[arg-type]

    made = make_corpus(["a b"])
    first = request()
    assert list(first["data"]) == [  # type: ignore[call-overload]
        str(Path(recipe.corpus.train).with_name(name)) for name in ("more.txt", "pairs.tsv")
    ]
    tables = as_json(recipe)
    tables["translator"]["training"]["parallel"][0]["licence"] = "CC0-1.0"
    tables["embeddings"]["fasttext"]["training"]["files"][0]["licence"] = "CC0-1.0"
    licensed = from_json(tables, "toy")
    own = licensed.embeddings.fasttext.training  # type: ignore[union-attr]
    purpose = module.Purpose(corpus=made, language="de", unit="word", key="k")
    assert module.make_request(licensed, own, purpose) == first  # type: ignore[arg-type]
    copied = from_json({**as_json(recipe), "translator": {"kind": "copy", "source": "de"}}, "toy")
    assert request(translator=copied.translator) != first
    made = make_corpus(["a c"])
    assert request() != first


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"min_count": 10**6}, CorpusError, "no word occurs 1000000 times in the text of 631 sentences"),
        ({"files": [{"path": "/nowhere/x.txt"}]}, MissingError, "take the file out of embeddings.fasttext"),
    ],
)
def test_text_that_is_not_there_is_refused(
    tmp_path: Path, changes: dict[str, object], error: type[BackattnError], message: str
) -> None:
    unique = len(set(text(120, 2)))
    with pytest.raises(error, match=message.replace("631", str(21 + unique + 60))):
        train(write_recipe(tmp_path, **changes), tmp_path / "vectors")
    assert not (tmp_path / "vectors").exists()
    assert not (tmp_path / "vectors.work").exists()


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ("a pipe", r"more\.txt: cannot be read \(not a regular file\)"),
        ("a link to a device", r"more\.txt: cannot be read \(not a regular file\)"),
        ("a link to itself", r"more\.txt: cannot be read \(Too many levels"),
        ("a folder", r"more\.txt: cannot be read \(Is a directory\)"),
        ("a line without end", r"more\.txt:1: more than 16 MiB on a line"),
        ("a program", r"more\.txt:1: byte 2 of the line is not UTF-8"),
        ("latin letters", r"more\.txt:2: byte 2 of the line is not UTF-8"),
        ("a packed file", r"more\.txt: expected text, found a file packed by gzip"),
        ("holes", r"more\.txt: 1,099,511,627,776 bytes, of which only 0 were written"),
    ],
)
def test_what_is_no_text_is_refused_at_once(tmp_path: Path, attack: str, message: str) -> None:
    recipe = write_recipe(tmp_path)
    path = tmp_path / "more.txt"
    path.unlink()
    if attack == "a pipe":
        os.mkfifo(path)
    elif attack.startswith("a link"):
        path.symlink_to("/dev/zero" if "device" in attack else path)
    elif attack == "a folder":
        path.mkdir()
    elif attack == "holes":
        path.touch()
        os.truncate(path, 1 << 40)
    else:
        data = {
            "a line without end": b"rot " * (1 << 23),
            "a program": b"\x7f\xfeELF\2\1",
            "latin letters": b"rot\nk\xf6ln\n",
            "a packed file": gzip.compress(b"rot\n"),
        }
        path.write_bytes(data[attack])
    with bounded(5, 256), pytest.raises((BackattnError, OSError)) as error:
        train(recipe, tmp_path / "vectors")
    said = str(error.value) if isinstance(error.value, BackattnError) else f"{path}: {error.value.strerror}"
    assert re.search(message, said)
    assert not (tmp_path / "vectors").exists()


def test_long_lines_and_nothing_are_text(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    purpose = module.Purpose(corpus=make_corpus(["a b"]), language="de", unit="word", key="k")
    training = recipe.embeddings.fasttext.training  # type: ignore[union-attr]
    for content, kept in (("x" * 1_000_000 + "\n", 1), ("." * 1_000_000, 1), ("", 0), ("\0" * 1_000_000, 0)):
        (tmp_path / "more.txt").write_text(content)
        with bounded(20, 512):
            found = module._read(recipe, training, purpose, progress=False)  # type: ignore[arg-type]
        assert found.files[0].kept == kept


def test_a_zero_in_a_token_and_a_very_long_sentence_are_trained_on(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, epochs=1)
    long = " ".join(["weit", "fern"] * 5500)
    (tmp_path / "more.txt").write_text(f"a\0b eins zwei\n{long}\n", "utf-8")
    report = train(recipe, tmp_path / "vectors")
    library = load_facebook_vectors(str(report.folder / "vectors.bin"))
    assert library.get_vecattr("weit", "count") == 5500
    assert not any("\0" in word for word in library.key_to_index)


def test_the_store_is_made_of_the_trained_file_and_damage_is_told(
    recipe: Recipe, whole: VectorsReport, cache: Path
) -> None:
    """Where there is none, the message names the command; a file that was changed since is refused."""
    corpus = make_corpus(["köln liegt"])
    with pytest.raises(
        MissingError, match=r"vectors\.bin: not there; make it with `backattn vectors train toy`"
    ):
        make_plan(recipe, corpus, "embeddings").stages  # noqa: B018
    (cache / "toy").mkdir(parents=True)
    (cache / "toy/vectors").symlink_to(whole.folder)
    (stage,) = make_plan(recipe, corpus, "embeddings").stages
    assert stage.models == {"vectors.bin": file_digest(whole.folder / "vectors.bin")}
    (found,) = load_embedder(recipe, "fasttext", "cpu", NOBODY).embed([("köln", "liegt")])
    assert found.shape == (2, 12)
    (cache / "toy/vectors").unlink()
    (cache / "toy/vectors").mkdir()
    for path in whole.folder.iterdir():
        (cache / "toy/vectors" / path.name).write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelError, match=r"vectors\.bin: sha256 is .* damaged, or changed since"):
        make_plan(recipe, corpus, "embeddings").stages  # noqa: B018


RECIPE = """
[corpus]
train = "train"
dev = "dev"
test = "test"
source = "here"
[translator]
kind = "copy"
source = "de"
[tagger]
embeddings = ["fasttext"]
[embeddings.fasttext]
checkpoint = "{checkpoint}"
"""
TABLE = 'training = { files = [{ path = "more.txt" }], dimensions = 6, epochs = 1, buckets = 50 }\n'


def test_the_commands_train_and_say_what_is_covered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    write_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKATTN_DATA", str(tmp_path))
    (tmp_path / "pipelines").mkdir()
    own = RECIPE.format(checkpoint="own/vectors")
    (tmp_path / "pipelines/own.toml").write_text(own + TABLE)
    (tmp_path / "pipelines/other.toml").write_text(own)
    status, out, _ = run("vectors", "train", "other")
    assert status == 2
    status, out, _ = run("models", "other", "--dry-run", "--json")
    assert [(m["kind"], m["recipe"], m["state"]) for m in json.loads(out)] == [
        ("fastText vectors", "own", "to train")
    ]
    status, out, err = run("models", "other")
    assert status == 0, err
    assert "fastText vectors of own" in out
    assert "in the vocabulary of dev: 28.6% of 7 tokens" in out
    status, again, _ = run("vectors", "train", "own")
    assert status == 0
    assert "in the vocabulary of test: 100.0% of 12 tokens" in again
    status, out, _ = run("vectors", "train", "own", "--set", "embeddings.fasttext.training.epochs=2")
    assert status == 2
    status, out, _ = run(
        "vectors", "train", "own", "--replace", "--threads", "2", "--json",
        "--set", "embeddings.fasttext.training.epochs=2",
    )  # fmt: skip
    made = json.loads(out)
    assert (status, made["threads"], len(made["epochs"])) == (0, 2, 2)
    assert open_fasttext(cache / "own/vectors/vectors.bin").width == 6
