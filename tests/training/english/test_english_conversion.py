"""backattn english convert: opened once, proved equal, published whole; and nothing runs unasked."""

import dataclasses
import json
from pathlib import Path

import pytest

flair = pytest.importorskip("flair")

import torch  # noqa: E402
from click.testing import CliRunner  # noqa: E402
from flair.models import SequenceTagger  # noqa: E402

from backattn import cli  # noqa: E402
from backattn.common.digests import file_digest  # noqa: E402
from backattn.common.errors import MissingError, ModelError  # noqa: E402
from backattn.english import EnglishReading  # noqa: E402
from backattn.english.bilstm import Recurrent  # noqa: E402
from backattn.english.flair import FlairTagger  # noqa: E402
from backattn.models.flair_serialisation import describe  # noqa: E402
from backattn.models.vouchers import Vouchers  # noqa: E402
from backattn.training.english import convert  # noqa: E402
from backattn.training.english.convert import convert_tagger, probes  # noqa: E402
from tiny_english import (  # noqa: E402
    Bomb,
    every_embedding,
    make_sentences,
    other_tagger,
    random_tagger,
    save_pickle,
)

pytestmark = pytest.mark.slow


def load(path: Path, *, trust: bool = False) -> list[EnglishReading]:
    tagger = FlairTagger.load(path, sha256="", vouchers=Vouchers(trust=trust), batch_tokens=90, device="cpu")
    return tagger.read([sentence.tokens for sentence in make_sentences(12, seed=2)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    save_pickle(random_tagger(tmp_path / "log"), tmp_path / "tagger.pt")
    return tmp_path / "tagger.pt"


@pytest.mark.parametrize("shape", ["own", *every_embedding()])
def test_a_converted_file_reads_as_the_flair_file_does(tmp_path: Path, shape: str) -> None:
    tagger: SequenceTagger = random_tagger(tmp_path / "log")
    if shape != "own":
        tagger = other_tagger(shape, every_embedding()[shape])
    source, target = tmp_path / "flair.bin", tmp_path / "new" / "tagger.safetensors"
    save_pickle(tagger, source)
    made = convert_tagger(source, target, sha256=file_digest(source), trust=False)
    assert made.sha256 == file_digest(target)
    assert (made.sentences, made.tokens > 500) == (60, True)
    assert [path.name for path in target.parent.iterdir()] == ["tagger.safetensors"]
    for one, other in zip(load(target), load(source, trust=True), strict=True):
        assert one.states.tobytes() == other.states.tobytes()
        assert one.tags == other.tags
    first = target.read_bytes()
    assert convert_tagger(source, target, sha256="", trust=True) == made
    assert target.read_bytes() == first


def test_the_command(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKATTN_CACHE", str(source.parent))
    target = source.parent / "english" / "tagger.safetensors"
    arguments = ["english", "convert", str(source), str(target)]
    result = CliRunner().invoke(cli.main, [*arguments, "--sha256", file_digest(source)])
    assert result.exit_code == 0, result.output
    assert "states and tags equal those of the flair file on 60 sentences (" in result.stdout
    assert 'checkpoint = "english/tagger.safetensors"' in result.stdout
    assert f'sha256 = "{file_digest(target)}"' in result.stdout
    result = CliRunner().invoke(cli.main, [*arguments, "--trust", "--json"])
    assert json.loads(result.stdout)["sha256"] == file_digest(target)

    result = CliRunner().invoke(cli.main, arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "pickle and can run code" in result.stderr
    assert "--sha256" in result.stderr


@pytest.mark.parametrize("options", [[], ["--sha256", "0" * 64], ["--sha256", "0" * 64, "--trust"]])
def test_a_malicious_pickle_does_not_run(tmp_path: Path, options: list[str]) -> None:
    source, target, trace = tmp_path / "tagger.pt", tmp_path / "tagger.safetensors", tmp_path / "trace"
    torch.save(Bomb(trace), source)
    (tmp_path / "training.json").write_text(json.dumps({"files": {"tagger.pt": file_digest(source)}}))
    result = CliRunner().invoke(cli.main, ["english", "convert", str(source), str(target), *options])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert not trace.exists()
    assert not target.exists()


def test_what_reads_differently_is_not_published(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = source.with_suffix(".safetensors")
    target.write_bytes(b"the old one")
    real = FlairTagger.from_bytes

    def worse(data: bytes, **options: object) -> FlairTagger:
        tagger = real(data, **options)  # type: ignore[arg-type]
        with torch.no_grad():
            tagger._tagger.rnn.weight_hh_l0[0, 0] += 1e-3
        tagger._recurrent = Recurrent(tagger._tagger.rnn)
        return tagger

    monkeypatch.setattr(convert.FlairTagger, "from_bytes", worse)
    with pytest.raises(ModelError, match=r"tagger\.pt: .*would read differently, so none was written"):
        convert_tagger(source, target, sha256="", trust=True)
    assert target.read_bytes() == b"the old one"


def test_a_tagger_that_it_cannot_hold(tmp_path: Path) -> None:
    words = every_embedding()["one-hot"]
    words.field = "pos"
    save_pickle(other_tagger("plain", words), tmp_path / "tagger.pt")
    with pytest.raises(ModelError, match=r"tagger\.pt: .*OneHotEmbeddings read 'pos'.*english\.sha256"):
        convert_tagger(tmp_path / "tagger.pt", tmp_path / "x.safetensors", sha256="", trust=True)


def test_names(source: Path) -> None:
    with pytest.raises(ModelError, match=r"x\.pt: expected a name that ends in \.safetensors"):
        convert_tagger(source, source.with_name("x.pt"), sha256="", trust=True)
    with pytest.raises(ModelError, match="is no flair file by its name"):
        convert_tagger(
            source.with_suffix(".safetensors"), source.with_name("x.safetensors"), sha256="", trust=True
        )
    with pytest.raises(MissingError, match=r"nowhere\.pt"):
        convert_tagger(
            source.with_name("nowhere.pt"), source.with_name("x.safetensors"), sha256="", trust=True
        )
    with pytest.raises(ModelError, match="cannot be written"):
        convert_tagger(source, source / "x.safetensors", sha256="", trust=True)


def test_probes_know_words_and_letters_of_every_part_and_others() -> None:
    for shape, embeddings in every_embedding().items():
        description = describe(other_tagger(shape, embeddings))
        sentences = probes(description)
        assert probes(dataclasses.replace(description)) == sentences  # the same each time
        tokens = {token for sentence in sentences for token in sentence}
        assert {len(sentence) for sentence in sentences} >= {1, 2, 40}
        assert tokens & set(convert._ODD)
        for vocabulary in convert._vocabularies(description):
            assert len(set(vocabulary) & (tokens | set("".join(tokens)))) >= len(vocabulary) / 2
