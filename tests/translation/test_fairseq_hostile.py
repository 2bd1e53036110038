"""fairseq's files by strangers: pickles and settings that run, archives that write elsewhere, damage.

Each hostile file would make the folder ``harm`` if it had its way.
"""

import argparse
import codecs
import io
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import omegaconf
import pytest
import torch
from fairseq import file_utils
from fairseq.models.transformer import TransformerModel

import tiny_translator
from backattn.common.errors import BackattnError, MissingError
from backattn.models import safe_tar
from backattn.models.safe_checkpoint import PLAIN_CLASSES, _is_literal
from backattn.recipe import FairseqRecipe
from backattn.translation.fairseq import FairseqTranslator
from backattn.translation.fairseq_checkpoint import hub_folder
from backattn.translation.tokenisation import BpeCodes
from bounds import bounded

pytestmark = pytest.mark.slow

KINDS = ("fconv", "transformer")


class Malicious:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Translators of both kinds, and one as fairseq's public archives have it."""
    made = {
        kind: tiny_translator.make_translator(tmp_path_factory.mktemp(kind) / "model", kind) for kind in KINDS
    }
    hub = tmp_path_factory.mktemp("toy.de-en")
    (hub / "bpecodes").write_text("e r</w> 9\nB r 8\nBr e 7\ni n</w> 6\nm e 5\n", encoding="utf-8")
    tiny_translator.write_dictionaries(hub, "de", BpeCodes.load(hub / "bpecodes", "de").pieces)
    tiny_translator.write_checkpoint(hub / "model.pt", "transformer", source="de", seed=1, old=True)
    return {**made, "hub": hub}


@pytest.fixture(autouse=True)
def careless_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own switch that lets every pickle run: nothing here may depend on it."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a translator that a test may break."""
    return lambda kind: Path(shutil.copytree(folders[kind], tmp_path / kind))


def load(folder: Path) -> FairseqTranslator:
    recipe = FairseqRecipe(checkpoint="toy", source="de", beam=2, max_len_b=4)
    return FairseqTranslator.load(folder, recipe, device="cpu")


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(BackattnError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 900
    return message


def read(path: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals(PLAIN_CLASSES):
        state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["whole", "args", "model", "task_state"])
def test_a_pickle_that_runs_is_refused(
    copied: Callable[[str], Path], tmp_path: Path, zipped: bool, place: str
) -> None:
    folder, bad = copied("fconv"), Malicious(tmp_path / "harm")
    state = bad if place == "whole" else {**read(folder / "checkpoint.pt"), place: bad}
    torch.save(state, folder / "checkpoint.pt", _use_new_zipfile_serialization=zipped)
    assert "checkpoint.pt: refused, it asks for posix.mkdir" in refusal(lambda: load(folder))
    assert not (tmp_path / "harm").exists()


def test_a_bare_pickle_is_refused(copied: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copied("fconv")
    (folder / "checkpoint.pt").write_bytes(pickle.dumps(Malicious(tmp_path / "harm")))
    assert "checkpoint.pt: " in refusal(lambda: load(folder))
    assert not (tmp_path / "harm").exists()


PROGRAM = "__import__('os').mkdir({!r}) or [(16, 3)] * 2"


@pytest.mark.parametrize("name", ["encoder_layers", "decoder_layers", "decoder_attention"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_setting_that_fairseq_would_evaluate_is_refused(
    copied: Callable[[str], Path], tmp_path: Path, name: str, as_bytes: bool
) -> None:
    """No pickle trick: plain texts in plain data, which fairseq's fconv gives to ``eval``."""
    folder = copied("fconv")
    state = read(folder / "checkpoint.pt")
    program = PROGRAM.format(str(tmp_path / "harm"))
    setattr(state["cfg"]["model"], name, program.encode() if as_bytes else program)
    torch.save(state, folder / "checkpoint.pt")
    found = refusal(lambda: load(folder))
    assert f"checkpoint.pt: refused, its setting {name} is the program " in found
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["adaptive_softmax_cutoff", "encoder_xformers_att_config"])
def test_so_is_one_of_an_old_transformer(copied: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    folder = copied("fconv")
    path = folder / "checkpoint.pt"
    tiny_translator.write_checkpoint(path, "transformer", source="de", seed=1, old=True)
    state = read(path)
    setattr(state["args"], name, PROGRAM.format(str(tmp_path / "harm")))
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert f"refused, its setting {name} is the program" in refusal(lambda: load(folder))
    assert not (tmp_path / "harm").exists()


def test_the_attack_is_real(copied: Callable[[str], Path], tmp_path: Path) -> None:
    """Second opinion: fairseq itself runs such a setting; should it ever stop to, these tests say nothing."""
    from fairseq import checkpoint_utils

    folder = copied("fconv")
    state = read(folder / "checkpoint.pt")
    state["cfg"]["model"].encoder_layers = PROGRAM.format(str(tmp_path / "harm"))
    torch.save(state, folder / "checkpoint.pt")
    with torch.serialization.safe_globals(PLAIN_CLASSES):
        checkpoint_utils.load_model_ensemble_and_task(
            [str(folder / "checkpoint.pt")], arg_overrides={"data": str(folder)}
        )
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("[(512, 3)] * 20", True),
        ("[(256, 3)] * 4 + [(512, 3)] * 2 + [(1024, 1)]", True),
        ("[True, False]", True),
        ("True", True),
        ("10000,60000", True),
        (6, True),
        (None, True),
        (0.5, True),
        ("[(512, 3)] * 99999999", False),
        ("9**9**9", False),
        ("[1] * 99 * 99", False),
        ("${oc.env:HOME}", False),
        ("[x for x in y]", False),
        ("lambda: 1", False),
        ("[1" + " " * 999, False),
        ("1" * 999, False),
        ("(" * 5000, False),
        (b"[1]", False),
        ([1], False),
    ],
)
def test_what_a_literal_is(value: object, literal: bool) -> None:
    assert _is_literal(value) is literal
    if literal and isinstance(value, str):
        eval(value, {"__builtins__": {}})  # noqa: S307 - rows of the table above


@pytest.mark.parametrize(
    ("kind", "part", "change"),
    [
        ("fconv", "model", {"_name": "fconv_self_att_wp", "arch": "fconv_self_att_wp"}),
        ("fconv", "model", {"_name": "fconv_lm"}),
        ("transformer", "model", {"_name": "wav2vec2"}),
        ("transformer", "model", {"_name": None, "arch": None}),
        ("transformer", "model", {"_name": "\x1b[31m" * 500}),
        ("transformer", "task", {"_name": "audio_finetuning"}),
        ("transformer", "task", {"_name": ["translation"]}),
    ],
)
def test_other_models_and_tasks_are_refused_before_they_are_built(
    copied: Callable[[str], Path], kind: str, part: str, change: dict[str, Any]
) -> None:
    folder = copied(kind)
    state = read(folder / "checkpoint.pt")
    settings = state["cfg"][part]
    (vars(settings) if isinstance(settings, argparse.Namespace) else settings).update(change)
    torch.save(state, folder / "checkpoint.pt")
    assert "expected an fconv or transformer model of fairseq's translation task; found" in refusal(
        lambda: load(folder)
    )


@pytest.mark.parametrize(
    "change",
    [{"cfg": None}, {"cfg": "text"}, {"cfg": {"model": 3}}, {"cfg": []}, {"model": None}, {"model": {}},
     {"args": 3}, {"model": {"x": torch.zeros(3)}}, {"optimizer_history": []}, {"extra_state": None},
     {"task_state": 3}],
    ids=str,
)  # fmt: skip
def test_a_checkpoint_of_odd_values_is_refused(copied: Callable[[str], Path], change: dict[str, Any]) -> None:
    folder = copied("fconv")
    torch.save({**read(folder / "checkpoint.pt"), **change}, folder / "checkpoint.pt")
    assert "checkpoint.pt: " in refusal(lambda: load(folder))


@pytest.mark.parametrize("value", [[], {}, 3, None, "text", torch.zeros(3), {"model": {}}], ids=str)
def test_what_is_no_checkpoint_is_refused(copied: Callable[[str], Path], value: Any) -> None:
    folder = copied("fconv")
    torch.save(value, folder / "checkpoint.pt")
    assert "checkpoint.pt: " in refusal(lambda: load(folder))


def test_settings_nested_without_end_are_refused(copied: Callable[[str], Path]) -> None:
    folder = copied("fconv")
    state = read(folder / "checkpoint.pt")
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    torch.save({**state, "cfg": loop}, folder / "checkpoint.pt")
    assert "checkpoint.pt: damaged or no checkpoint" in refusal(lambda: load(folder))


def shared(kind: Callable[[Any], Any]) -> Any:
    """Forty lists, each twice in the next: 2^40 leaves in a hundred bytes."""
    value = kind([0])
    for _ in range(40):
        value = kind([value, value])
    return value


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", [list, tuple, lambda pair: dict(enumerate(pair)), omegaconf.ListConfig])
def test_settings_that_share_lists_without_end_are_refused(
    copied: Callable[[str], Path], kind: Callable[[Any], Any], old: bool
) -> None:
    path = copied("fconv") / "checkpoint.pt"
    state = read(path)
    if kind is omegaconf.ListConfig:
        value: Any = omegaconf.ListConfig([0])
        for _ in range(40):
            outer = omegaconf.ListConfig([])
            vars(outer)["_content"] = [value, value]  # omegaconf itself would copy it
            value = outer
    else:
        value = shared(kind)
    settings = argparse.Namespace(arch="fconv", x=value) if old else {**state["cfg"], "x": value}
    torch.save({**state, "args" if old else "cfg": settings}, path)
    with bounded():
        assert "checkpoint.pt: damaged or no checkpoint" in refusal(lambda: load(path.parent))


def test_settings_that_are_filled_in_without_end_are_refused(copied: Callable[[str], Path]) -> None:
    """omegaconf puts texts together where they are asked for: here of 3 * 2^40 characters."""
    path = copied("fconv") / "checkpoint.pt"
    state = read(path)
    texts = {"a0": "lol", **{f"a{i + 1}": f"${{x.a{i}}}${{x.a{i}}}" for i in range(40)}}
    torch.save({**state, "cfg": {**state["cfg"], "x": texts, "y": "${x.a40}"}}, path)
    with bounded():
        assert "checkpoint.pt: refused, its setting a1 is the program" in refusal(lambda: load(path.parent))


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        ("transformer", "encoder_layers", 10**6),
        ("transformer", "decoder_layers", 10**6),
        ("transformer", "encoder_embed_dim", 12 * 10**8),
        ("transformer", "decoder_ffn_embed_dim", 10**9),
        ("transformer", "max_source_positions", 10**10),
        ("fconv", "encoder_layers", "[(16, 3)] * 999 + " * 40 + "[(16, 3)] * 999"),
        ("fconv", "decoder_layers", "[(999999, 3)] * 20"),
        ("fconv", "encoder_embed_dim", 10**9),
        ("fconv", "max_target_positions", 10**9),
    ],
)
def test_a_model_far_larger_than_its_file_takes_no_memory(
    copied: Callable[[str], Path], kind: str, setting: str, value: Any
) -> None:
    path = copied(kind) / "checkpoint.pt"
    load(path.parent)  # what it imports takes time of its own
    state = read(path)
    assert hasattr(state["cfg"]["model"], setting)
    setattr(state["cfg"]["model"], setting, value)
    torch.save(state, path)
    with bounded():
        found = refusal(lambda: load(path.parent))
    assert (
        "checkpoint.pt: refused, its settings describe a model that is far larger than the weights" in found
    )


def test_so_does_one_whose_weights_are_one_number_repeated(copied: Callable[[str], Path]) -> None:
    """Of the very shape that the settings ask for, in four bytes of the file."""
    path = copied("transformer") / "checkpoint.pt"
    load(path.parent)
    state = read(path)
    state["cfg"]["model"].encoder_ffn_embed_dim = 10**9
    for name, tensor in state["model"].items():
        if "encoder" in name and ".fc" in name:
            shape = [10**9 if length == 16 else length for length in tensor.shape]
            state["model"][name] = torch.zeros(1).expand(shape)
    torch.save(state, path)
    assert path.stat().st_size < 10**6
    with bounded():
        assert "far larger than the weights it holds" in refusal(lambda: load(path.parent))


@pytest.mark.parametrize(
    "name", ["${x}", "${oc.env:HOME}", "a:b", "a b", "%s%n", "'\"`", "a\nb", "-x", "\\${x}"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_may_have_any_name(folders: dict[str, Path], tmp_path: Path, kind: str, name: str) -> None:
    """Settings of fairseq's fill in `${`, and cut paths at colons."""
    folder = Path(shutil.copytree(folders[kind], tmp_path / name))
    assert load(folder).translate([("am", "Rhein")])


@pytest.mark.parametrize("name", ["checkpoint.pt", "dict.de.txt", "dict.en.txt", "joint.model"])
@pytest.mark.parametrize("odd", ["/proc/self/pagemap", "/proc/kmsg", "/dev/zero"])
def test_a_file_of_the_kernel_is_not_read(copied: Callable[[str], Path], name: str, odd: str) -> None:
    folder = copied("fconv")
    (folder / name).unlink()
    (folder / name).symlink_to(odd)
    with bounded():
        assert str(folder) in refusal(lambda: load(folder))


def test_a_compressed_checkpoint_is_not_unpacked(copied: Callable[[str], Path]) -> None:
    """torch stores; what is smaller than its content may be a bomb."""
    path = copied("fconv") / "checkpoint.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**8)
    assert "checkpoint.pt: damaged or no checkpoint" in refusal(lambda: load(path.parent))


def central_directory(archive: bytes) -> tuple[int, bytes]:
    """Where it begins, and itself, of a small archive without a comment."""
    size, begin = struct.unpack("<II", archive[-10:-2])
    return begin, archive[begin : begin + size]


def packed(path: Path) -> bytes:
    """A checkpoint of torch, packed."""
    made = io.BytesIO()
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in stored.namelist():
            archive.writestr(name, stored.read(name))
    return made.getvalue()


def two_directories(archive: bytes) -> bytes:
    """Python finds the second one, in which nothing is packed; torch finds the first."""
    begin, directory = central_directory(archive)
    harmless = bytearray(directory)
    place = 0
    while place < len(harmless):
        harmless[place + 20 : place + 28] = struct.pack("<II", 1, 1)
        place += 46 + sum(struct.unpack("<HHH", harmless[place + 28 : place + 34]))
    return archive[:begin] + directory + bytes(harmless) + archive[-22:]


@pytest.mark.parametrize("hide", [two_directories, lambda archive: archive + b"PK\5\6"])
def test_what_python_sees_of_an_archive_is_what_torch_reads(
    copied: Callable[[str], Path], hide: Callable[[bytes], bytes]
) -> None:
    path = copied("fconv") / "checkpoint.pt"
    state = read(path)
    torch.save({**state, "more": torch.zeros(1 << 20)}, path)
    path.write_bytes(hide(packed(path)))
    assert read(path)["more"].shape == (1 << 20,)  # torch unpacks it
    assert "checkpoint.pt: damaged or no checkpoint" in refusal(lambda: load(path.parent))


class Call:
    """Unpickling it calls one of the functions that torch's safe reader knows."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def digits_of_digits(times: int) -> object:
    value: object = Call(codecs.encode, "ab" * 8, "latin1")
    for _ in range(times):
        value = Call(codecs.encode, value, "hex")
    return value


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("value", [Call(bytearray, 1 << 30), digits_of_digits(26)])
def test_a_pickle_does_not_grow(copied: Callable[[str], Path], zipped: bool, value: object) -> None:
    folder = copied("fconv")
    state = {**read(folder / "checkpoint.pt"), "more": value}
    torch.save(state, folder / "checkpoint.pt", _use_new_zipfile_serialization=zipped)
    with bounded():
        assert "checkpoint.pt: " in refusal(lambda: load(folder))


def test_weights_that_the_file_does_not_hold_are_refused(copied: Callable[[str], Path]) -> None:
    """They would be whatever lies in memory, and as many as a few bytes claim."""
    folder = copied("fconv")
    state = read(folder / "checkpoint.pt")
    state["model"]["more"] = Call(torch.Tensor, 1 << 14, 1 << 10)
    torch.save(state, folder / "checkpoint.pt")
    assert "checkpoint.pt: damaged or no checkpoint" in refusal(lambda: load(folder))


def test_a_checkpoint_is_read_once(copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is built is what was looked at, whatever lies there a moment later."""
    folder, reads = copied("fconv"), []
    real = torch.load

    def counted(*arguments: Any, **options: Any) -> Any:
        reads.append(options.get("weights_only"))
        return real(*arguments, **options)

    monkeypatch.setattr(torch, "load", counted)
    assert load(folder).translate([("am", "Rhein")])
    assert reads == [True]


def test_a_shard_beside_a_checkpoint_is_not_opened(copied: Callable[[str], Path], tmp_path: Path) -> None:
    """fairseq prefers checkpoint-shard0.pt, which nobody looked into."""
    folder = copied("fconv")
    torch.save(Malicious(tmp_path / "harm"), folder / "checkpoint-shard0.pt")
    assert load(folder).translate([("am", "Rhein")])
    assert not (tmp_path / "harm").exists()


def test_files_to_begin_from_are_not_read(copied: Callable[[str], Path], tmp_path: Path) -> None:
    """A checkpoint may name embeddings, which fairseq would read to the end: here a pipe without one."""
    folder = copied("fconv")
    os.mkfifo(tmp_path / "pipe")
    state = read(folder / "checkpoint.pt")
    state["cfg"]["model"].encoder_embed_path = str(tmp_path / "pipe")
    state["cfg"]["model"].decoder_embed_path = "/dev/zero"
    torch.save(state, folder / "checkpoint.pt")
    assert load(folder).translate([("am", "Rhein")])


@pytest.mark.parametrize("seed", range(12))
def test_a_checkpoint_with_flipped_bytes_is_read_or_refused_in_a_line(
    copied: Callable[[str], Path], seed: int
) -> None:
    import random

    rng, path = random.Random(seed), copied("fconv") / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    pickled = data.find(b"data.pkl")
    for _ in range(3):
        data[rng.randrange(pickled, pickled + 3000) if seed % 2 else rng.randrange(len(data))] ^= (
            1 << rng.randrange(8)
        )
    path.write_bytes(data)
    try:
        load(path.parent)
    except BackattnError as error:
        assert str(error).isprintable()  # noqa: PT017


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("dict.de.txt", b"word count\n", "Incorrect dictionary format"),
        ("dict.de.txt", b"word\n", "Incorrect dictionary format"),
        ("dict.de.txt", b"word 1\nword 1\n", "Duplicate word found"),
        ("dict.en.txt", b"x" * 10**6 + b" y\n", "Incorrect dictionary format"),
        ("dict.en.txt", b"\x1b[31m x\n", "Incorrect dictionary format"),
        ("dict.en.txt", b"", "size mismatch"),
        ("dict.de.txt", b"a 1\nb " + b"9" * 5000 + b"\n", "Incorrect dictionary format"),
    ],
    ids=str,
)
def test_a_damaged_dictionary_is_told(
    copied: Callable[[str], Path], name: str, content: bytes, reason: str
) -> None:
    folder = copied("fconv")
    (folder / name).write_bytes(content)
    found = refusal(lambda: load(folder))
    assert "checkpoint.pt: fairseq cannot build this model with the dictionaries beside it" in found
    assert reason in found


@pytest.mark.parametrize("content", [b"\xff\xfe 1\n", "Köln 3\n".encode("latin-1")], ids=["mark", "latin-1"])
def test_a_dictionary_that_is_not_utf8_is_named(copied: Callable[[str], Path], content: bytes) -> None:
    folder = copied("fconv")
    (folder / "dict.en.txt").write_bytes(content)
    found = refusal(lambda: load(folder))
    assert "dict.en.txt: not UTF-8 ('utf-8' codec can't decode byte" in found
    assert "checkpoint.pt" not in found


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"text", b"\x0a\xff\xff\xff\xff\x0f", os.urandom(500)])
def test_damaged_pieces_are_named(copied: Callable[[str], Path], content: bytes) -> None:
    folder = copied("fconv")
    (folder / "joint.model").write_bytes(content)
    assert "joint.model: not a sentencepiece model; put the" in refusal(lambda: load(folder))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_pieces_cut_short_are_named(copied: Callable[[str], Path], share: float) -> None:
    path = copied("fconv") / "joint.model"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "joint.model: not a sentencepiece model" in refusal(lambda: load(path.parent))


@pytest.mark.parametrize("name", ["checkpoint.pt", "dict.de.txt", "joint.model"])
def test_what_is_no_file_is_not_waited_for(copied: Callable[[str], Path], name: str) -> None:
    folder = copied("fconv")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert f"{name}: " in refusal(lambda: load(folder))


@pytest.mark.parametrize("content", [b"", b"a b\n", b"a b c d\n", b"\xff\xfe\n", b"e r</w> 9\nx\n"])
def test_damaged_codes_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bpecodes").write_bytes(content)
    found = refusal(lambda: BpeCodes.load(tmp_path / "bpecodes", "de"))
    assert "bpecodes: expected lines of two symbols and a count (fastBPE codes)" in found


URL = "http://127.0.0.1:9/toy.de-en.tar.gz"


@pytest.fixture
def cache(unopened_cache: Path) -> Path:
    """fairseq's cache, on a Python that unpacks archives."""
    tiny_translator.need_safe_archives()
    return unopened_cache


@pytest.fixture
def unopened_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """fairseq's cache, and a model of its list that was fetched there."""
    folder = tmp_path / "fairseq-cache"
    folder.mkdir()
    models = {"transformer.toy.de-en": {"path": URL, "tokenizer": "moses", "bpe": "fastbpe"}}
    monkeypatch.setattr(TransformerModel, "hub_models", classmethod(lambda cls: models))
    monkeypatch.setattr(file_utils, "PYTORCH_FAIRSEQ_CACHE", folder)

    def no_answer(*_: object) -> None:
        raise RuntimeError("Unable to fetch file")

    # Then fairseq takes what its cache has.
    monkeypatch.setattr(file_utils, "request_wrap_timeout", no_answer)
    return folder


def fetched(cache: Path) -> Path:
    return cache / f"{file_utils.url_to_filename(URL)}.0123"


def from_hub() -> FairseqTranslator:
    recipe = FairseqRecipe(hub="transformer.toy.de-en", source="de", beam=2, max_len_b=4)
    return FairseqTranslator.load_archive(hub_folder(recipe.hub), recipe, device="cpu")


def pack(cache: Path, folder: Path, *members: tarfile.TarInfo) -> None:
    """An archive of a model, with more members after it."""
    with tarfile.open(fetched(cache), "w:gz") as archive:
        archive.add(folder, "toy.de-en")
        for member in members:
            archive.addfile(member, io.BytesIO(b"evil" if member.isreg() else b""))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size, made.mode = kind, link, 4 if kind == tarfile.REGTYPE else 0, 0o777
    return made


def test_an_archive_is_unpacked_once(
    folders: dict[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(cache, folders["hub"])
    first = from_hub().translate([("am", "Rhein")])
    assert fetched(cache).is_dir()
    monkeypatch.delattr(file_utils, "load_archive_file")  # no network is asked for what is there
    assert from_hub().translate([("am", "Rhein")])[0].english == first[0].english
    assert tarfile.TarFile.extraction_filter is None


@pytest.mark.parametrize(
    "kind", ["outside", "absolute", "symlink", "hard link", "through a link", "device", "pipe"]
)
def test_an_archive_writes_nowhere_else(
    folders: dict[str, Path], cache: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    harm, secret = tmp_path / "harm", tmp_path / "secret"
    secret.write_text("secret")
    up = "../" * 20 + str(tmp_path).lstrip("/")
    members = {
        "outside": [member(f"toy.de-en/{up}/harm")],
        "absolute": [member(str(harm))],
        "symlink": [member("toy.de-en/dict.xx.txt", tarfile.SYMTYPE, str(secret))],
        "hard link": [member("toy.de-en/dict.xx.txt", tarfile.LNKTYPE, f"{up}/secret")],
        "through a link": [member("toy.de-en/x", tarfile.SYMTYPE, str(tmp_path)), member("toy.de-en/x/harm")],
        "device": [member("toy.de-en/zero", tarfile.CHRTYPE)],
        "pipe": [member("toy.de-en/pipe", tarfile.FIFOTYPE)],
    }[kind]
    pack(cache, folders["hub"], *members)
    found = refusal(from_hub)
    assert found.startswith(f"transformer.toy.de-en: {URL}: refused, its member ")
    assert f"delete it from {cache}" in found
    assert not harm.exists()
    assert secret.read_text() == "secret"
    assert tarfile.TarFile.extraction_filter is None


def test_an_archive_that_unpacks_to_too_much_is_refused(
    folders: dict[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(cache, folders["hub"])
    monkeypatch.setattr(safe_tar, "_MOST_UNPACKED", 1000)
    assert "bytes unpacked; expected at most 1,000, and room for it on the disk" in refusal(from_hub)


def test_an_absolute_name_alone_moves_nothing(cache: Path, tmp_path: Path) -> None:
    """fairseq moves the archive's common folder into its cache: an absolute one would be the user's own."""
    mine = tmp_path / "mine"
    mine.mkdir()
    with tarfile.open(fetched(cache), "w:gz") as archive:
        archive.addfile(member(str(mine), tarfile.DIRTYPE))
    assert "lies outside of its folder" in refusal(from_hub)
    assert mine.is_dir()


@pytest.mark.parametrize("content", [b"", b"text", b"\x1f\x8b" + b"\0" * 50, "cut", "empty", "two folders"])
def test_a_damaged_archive_is_named(folders: dict[str, Path], cache: Path, content: bytes | str) -> None:
    pack(cache, folders["hub"])
    if content == "cut":
        fetched(cache).write_bytes(fetched(cache).read_bytes()[:5000])
    elif isinstance(content, bytes):
        fetched(cache).write_bytes(content)
    else:
        with tarfile.open(fetched(cache), "w:gz") as archive:
            for name in ("a/b", "c/d") if content == "two folders" else ():
                archive.addfile(member(name), io.BytesIO(b"evil"))
    assert "transformer.toy.de-en" in (found := refusal(from_hub)) or "dict.de.txt: not there" in found


@pytest.mark.parametrize("zipped", [True, False])
def test_a_model_of_an_archive_that_runs_is_refused(
    folders: dict[str, Path], cache: Path, tmp_path: Path, zipped: bool
) -> None:
    folder = Path(shutil.copytree(folders["hub"], tmp_path / "hub"))
    state = {"args": Malicious(tmp_path / "harm"), "model": {}}
    torch.save(state, folder / "model.pt", _use_new_zipfile_serialization=zipped)
    pack(cache, folder)
    assert "model.pt: refused, it asks for posix.mkdir" in refusal(from_hub)
    assert not (tmp_path / "harm").exists()


def test_an_old_python_unpacks_nothing(
    folders: dict[str, Path], unopened_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(unopened_cache, folders["hub"])
    monkeypatch.delattr(tarfile, "data_filter", raising=False)  # it is not there before 3.11.4
    assert "this Python cannot unpack archives safely; expected 3.11.4 or later" in refusal(from_hub)


def test_a_network_without_an_answer_is_told(cache: Path) -> None:
    with pytest.raises(MissingError, match=r"toy\.de-en: http.* cannot be fetched and is not in .*go online"):
        from_hub()


def test_missing_parts_of_an_archive_are_named(folders: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    for name in ("model.pt", "dict.de.txt", "bpecodes"):
        folder = Path(shutil.copytree(folders["hub"], tmp_path / name))
        (folder / name).unlink()
        shutil.rmtree(fetched(cache), ignore_errors=True)
        pack(cache, folder)
        with pytest.raises(MissingError, match=name):
            from_hub()
