"""Run folders by strangers: odd JSON, weights that claim what they do not hold, files that are none."""

import copy
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from tagger_samples import TINY, DictVectors, make_corpus

from backattn.common.errors import BackattnError, ModelError
from backattn.common.safe_text import quoted
from backattn.tagger.checkpoint_io import read_tensors, write_tensors
from backattn.tagger.prediction import load_run, predict
from backattn.tagger.run_spec import RunSpec
from backattn.tagger.training import train_run
from hostile import JSON_VALUES, with_odd_value

SENTENCE = ("Ada", "sees", "Ulm")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, corpus = tmp_path_factory.mktemp("run"), make_corpus()
    identity = {"corpus": "c", "lang": "toy"}
    options: dict[str, Any] = {
        "inputs": "words",
        "seed": 3,
        "identity": identity,
        "groups": {"places": "LOC"},
    }
    recipe = structs.replace(TINY, characters="cnn")
    train_run(RunSpec(corpus, recipe, transfer=DictVectors(corpus), **options), folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(BackattnError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 600
    return message


@pytest.mark.slow
@given(data=st.data(), name=st.sampled_from(["run.json", "vocabulary.json"]), value=JSON_VALUES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_odd_value_is_taken_or_refused_in_a_line(
    finished: Path, tmp_path: Path, data: st.DataObject, name: str, value: Any
) -> None:
    run = tmp_path / "mutated"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(finished, run)
    table = json.loads((run / name).read_text("utf-8"))
    (run / name).write_text(json.dumps(with_odd_value(table, data, value)), "utf-8")
    try:
        model = load_run(run)
    except BackattnError as error:
        assert str(error).isprintable()  # noqa: PT017
        assert str(run) in str(error)  # noqa: PT017
    else:
        assert len(predict(model, [SENTENCE])[0]) == 3
        assert 0 <= model.run.test.overall.f1 <= 1


@pytest.mark.parametrize("name", ["run.json", "vocabulary.json"])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5000, b"{}", b"\0"],
    ids=quoted,
)
def test_a_damaged_table_is_named(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)
    assert str(run) in refusal(lambda: load_run(run))


def test_odd_epochs_are_named(run: Path) -> None:
    whole = (run / "epochs.jsonl").read_text("utf-8")
    for text in ("", "{", whole + "{}\n", whole.replace("{", "[" * 50_000, 1), "3\n" * 4, "\0"):
        (run / "epochs.jsonl").write_text(text, "utf-8")
        assert "damaged run" in refusal(lambda: load_run(run))


def weights_file(path: Path, header: Any, data: bytes = b"") -> None:
    """A safetensors file: the length of its header, the header, the numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8")
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize(
    "header",
    [
        {"x": {"dtype": "F32", "shape": [10**12, 10**12], "data_offsets": [0, 8]}},
        {"x": {"dtype": "F32", "shape": [2**63, 2], "data_offsets": [0, 8]}},
        {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**62]}},
        {"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}},
        {"x": {"dtype": "F32", "shape": "ab", "data_offsets": [0, 8]}},
        {"x": {"dtype": "EVIL", "shape": [2], "data_offsets": [0, 8]}},
        {"x": 3},
        [],
        b"[" * 100_000,
        b"{" * 1000,
        b"\xff" * 100,
        b"",
        {"__metadata__": {"about": "[]"}},
        {"__metadata__": {"about": "[" * 100_000}},
        {"__metadata__": {"about": "{}"}},
        {"__metadata__": {"about": 3}},
        {"__metadata__": {"about": '{"shape": {}}'}},
    ],
    ids=quoted,
)
def test_weights_that_claim_too_much_are_named(run: Path, header: Any) -> None:
    weights_file(run / "weights.safetensors", header, bytes(8))
    found = refusal(lambda: load_run(run))
    assert str(run) in found
    assert "train again" in found


def test_a_header_longer_than_the_file_is_named(run: Path) -> None:
    for length in (2**63, 10**9, 0):
        (run / "weights.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
        assert "weights.safetensors: damaged" in refusal(lambda: load_run(run))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("words", 10**12),
        ("words", 10**30),
        ("words", "many"),
        ("word_dimensions", 10**12),
        ("hidden", 10**7),
        ("hidden", -8),
        ("hidden", 0),
        ("hidden", 8.5),
        ("hidden", None),
        ("alphabet", 10**13),
        ("character_dimensions", 10**13),
        ("characters", "lstm"),
        ("characters", ["cnn"]),
        ("transfer", 10**13),
        ("transfer", 6),
        ("tags", ["O"] * 10**5),
        ("tags", [3]),
        ("tags", None),
        ("tags", "OBIES"),
        ("embeddings", {"bert": 6}),
        ("embeddings", {"bert": 10**13}),
        ("embeddings", {"bert": -1}),
        ("embeddings", {"pop": "many"}),
        ("embeddings", 3),
        ("embeddings", ["bert"]),
        ("embeddings", None),
        ("fusion", "sideways"),
        ("fusion", []),
        ("fusion", None),
        ("word_dimensions", 0),
        ("unknown", 1),
    ],
)
def test_a_shape_that_the_weights_do_not_have_takes_no_memory(run: Path, key: str, value: Any) -> None:
    tensors, about = read_tensors(run / "weights.safetensors")
    changed = copy.deepcopy(about)
    changed["shape"][key] = value
    write_tensors(run / "weights.safetensors", tensors, changed)
    assert "its files do not fit together" in refusal(lambda: load_run(run))


def replace_last_tag(run: Path, tag: str) -> None:
    """Put another tag in the place of the last one, in both files of a run that hold its tags."""
    tensors, about = read_tensors(run / "weights.safetensors")
    vocabulary = json.loads((run / "vocabulary.json").read_text("utf-8"))
    about["shape"]["tags"][-1] = vocabulary["tags"][-1] = tag
    write_tensors(run / "weights.safetensors", tensors, about)
    (run / "vocabulary.json").write_text(json.dumps(vocabulary), "utf-8")


@pytest.mark.parametrize("tag", ["B-x\nfake\tO", "", "B", "X-PER", "B-", "B-a b", "O\nO"])
def test_a_tag_that_would_forge_lines_is_named(run: Path, tag: str) -> None:
    """Tags are written between lines and columns, of which others make corpora."""
    replace_last_tag(run, tag)
    assert "together (ValueError: a tag is not of BIOES)" in refusal(lambda: load_run(run))


@pytest.mark.parametrize("tag", ["B-Q", "O"])
def test_tags_without_which_a_sentence_has_none_are_refused(run: Path, tag: str) -> None:
    """Its entities would have the probability NaN, which is no JSON."""
    replace_last_tag(run, tag)
    assert "expected O and the four of each type, once" in refusal(lambda: load_run(run))


def test_weights_of_another_kind_are_named(run: Path) -> None:
    tensors, about = read_tensors(run / "weights.safetensors")
    for change in (
        {"linear.weight": torch.zeros(1, 1)},
        {"linear.weight": torch.zeros(0)},
        {"more": torch.zeros(1)},
        {"crf.chain.transitions": torch.zeros(3, 3)},
        {"crf.chain.transitions": torch.zeros(())},
    ):
        write_tensors(run / "weights.safetensors", {**tensors, **change}, about)
        assert "its files do not fit together" in refusal(lambda: load_run(run))
    write_tensors(run / "weights.safetensors", {k: v for k, v in tensors.items() if "linear" not in k}, about)
    assert "its files do not fit together" in refusal(lambda: load_run(run))


@pytest.mark.parametrize("inputs", ["transfer", "words+transfer", "random", "x", 3, None])
def test_inputs_that_the_weights_do_not_have_are_named(run: Path, inputs: Any) -> None:
    table = json.loads((run / "run.json").read_text("utf-8"))
    table["request"]["inputs"] = inputs
    (run / "run.json").write_text(json.dumps(table), "utf-8")
    assert str(run) in refusal(lambda: load_run(run))


@pytest.mark.parametrize("name", ["run.json", "epochs.jsonl", "vocabulary.json", "weights.safetensors"])
def test_what_is_no_file_is_not_waited_for(run: Path, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    assert str(run) in refusal(lambda: load_run(run))
    (run / name).unlink()
    (run / name).mkdir()
    assert str(run) in refusal(lambda: load_run(run))


def test_a_damaged_state_of_a_stopped_training_is_named(run: Path) -> None:
    (run / "run.json").unlink()
    corpus = make_corpus()
    for about in ({}, {"request": 3}, {"request": {}, "state": 4}):
        write_tensors(run / "checkpoint.safetensors", {"x": torch.zeros(1)}, about)
        with pytest.raises((ModelError, BackattnError)) as caught:
            train_run(RunSpec(corpus, TINY, "words", 3, {"corpus": "c"}), run)
        assert str(caught.value).isprintable()
        assert "again" in str(caught.value)
