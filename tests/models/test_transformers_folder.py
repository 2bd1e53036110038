"""Folders of transformers from outside: nothing of them runs or leads elsewhere; good ones open as ever."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, BertForMaskedLM, MarianMTModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from backattn.common.errors import MissingError, ModelError
from backattn.embeddings.bert import Bert
from backattn.models.model_digests import embedding_files, translator_files
from backattn.recipe import BertRecipe, TransformersRecipe, load_recipe
from backattn.training.translator.vocabulary import train_vocabulary
from backattn.translation.marian import MarianTranslator
from tiny_bert import NAMES, save_encoder
from tiny_marian import make_marian
from tiny_translator import TEXT

pytestmark = pytest.mark.slow

SENTENCES = [("abc", "the", "ding"), ("a",), ("zebra", "\u200b", "Köln", "e"), ("ab", "cd") * 30]
_NOTED: list[str] = []
_WATCHING = [False]


def _note(event: str, arguments: object) -> None:
    if _WATCHING[0] and event.startswith(
        ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn")
    ):
        _NOTED.append(event)


sys.addaudithook(_note)


@contextmanager
def nothing_runs(marker: Path) -> Iterator[None]:
    """No socket is opened inside, no program started, and no code writes the marker."""
    _NOTED.clear()
    _WATCHING[0] = True
    try:
        yield
    finally:
        _WATCHING[0] = False
    assert not _NOTED
    assert not marker.exists()


def load(folder: Path, **settings: object) -> Bert:
    return Bert.load(folder, BertRecipe(checkpoint="x", **settings), device="cpu")  # type: ignore[arg-type]


def translate(folder: Path) -> MarianTranslator:
    return MarianTranslator.load(
        folder, TransformersRecipe(checkpoint="x", source="de", beam=3, max_len_b=4), device="cpu"
    )


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {kind: save_encoder(kind, home / kind) for kind in NAMES} | {
        "marian": make_marian(home / "marian")
    }


@pytest.fixture
def code(tmp_path: Path) -> tuple[Path, Path]:
    """A folder whose code writes a marker where anybody runs it, and the marker's place."""
    folder, marker = tmp_path / "code", tmp_path / "marker"
    folder.mkdir()
    names = ("AutoConfig", "AutoModel", "AutoBackbone", "AutoTokenizer", "AutoModelForKeypointDetection")
    (folder / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": dict.fromkeys(names, "own.Own")})
    )
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Own: pass\n")
    return folder, marker


def hostile_settings(place: Path) -> list[dict[str, Any]]:
    """Ways by which a config.json sends transformers to other code."""
    inner = {"model_type": "own", "_name_or_path": str(place), "trust_remote_code": True}
    nested = ("keypoint_detector_config", "backbone_config", "text_config", "vision_config", "encoder",
              "decoder", "audio_config", "language_config")  # fmt: skip
    return [
        {"trust_remote_code": True, **dict.fromkeys(nested, inner)},
        {
            "backbone": str(place), "use_timm_backbone": False, "use_pretrained_backbone": False,
            "backbone_kwargs": {"trust_remote_code": True},
        },
        {"auto_map": {"AutoConfig": f"{place}--own.Own", "AutoModel": f"{place}--own.Own"}},
        {"label2id": {"x": [{"y": {"custom_generate": str(place)}}]}},
    ]  # fmt: skip


class TestNothingRuns:
    """Each of these ran code, or read what is not digested, before types were a closed list."""

    def test_generation_code_of_a_translator(
        self, models: dict[str, Path], tmp_path: Path, code: tuple[Path, Path]
    ) -> None:
        folder = Path(shutil.copytree(models["marian"], tmp_path / "model"))
        (folder / "custom_generate").mkdir()
        shutil.copy(code[0] / "own.py", folder / "custom_generate/generate.py")
        (folder / "custom_generate/generate.py").open("a").write("def generate(*a, **k): pass\n")
        with nothing_runs(code[1]):
            translate(folder)

    @pytest.mark.parametrize("kind", ["lightglue", "detr", "bert"])
    @pytest.mark.parametrize("attack", range(4))
    def test_settings_that_lead_to_code(
        self, models: dict[str, Path], tmp_path: Path, code: tuple[Path, Path], kind: str, attack: int
    ) -> None:
        folder = Path(shutil.copytree(models["bert"], tmp_path / "model"))
        edit(folder / "config.json", model_type=kind, **hostile_settings(code[0])[attack])
        with nothing_runs(code[1]), pytest.raises(ModelError, match="names code or a model elsewhere"):
            load(folder)

    @pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
    @pytest.mark.parametrize("attack", range(4))
    def test_a_tokenizer_that_leads_to_code(
        self, models: dict[str, Path], tmp_path: Path, code: tuple[Path, Path], name: str, attack: int
    ) -> None:
        folder = Path(shutil.copytree(models["bert"], tmp_path / "model"))
        edit(folder / name, **hostile_settings(code[0])[attack])
        with nothing_runs(code[1]), pytest.raises(ModelError, match=rf"{name}: .* names code"):
            load(folder)

    @pytest.mark.parametrize("attack", [None, 0, 1, 2, 3])
    def test_every_type_that_transformers_knows(
        self, models: dict[str, Path], tmp_path: Path, code: tuple[Path, Path], attack: int | None
    ) -> None:
        encoder = Path(shutil.copytree(models["bert"], tmp_path / "encoder"))
        translator = Path(shutil.copytree(models["marian"], tmp_path / "translator"))
        change = {} if attack is None else hostile_settings(code[0])[attack]
        opened = []
        for kind in CONFIG_MAPPING_NAMES:
            for folder, opener in ((encoder, load), (translator, translate)):
                edit(folder / "config.json", model_type=kind, **change)
                with nothing_runs(code[1]), suppress(ModelError):
                    opener(folder)  # type: ignore[operator]
                    opened.append(kind)
        assert len(CONFIG_MAPPING_NAMES) > 300
        assert set(opened) <= ({*NAMES, "marian"} if attack is None else set())
        assert attack is not None or {"bert", "marian"} <= set(opened)

    def test_a_hub_s_name_is_never_looked_up(
        self, models: dict[str, Path], tmp_path: Path, code: tuple[Path, Path]
    ) -> None:
        folder = Path(shutil.copytree(models["bert"], tmp_path / "model"))
        inner = {"model_type": "own", "_name_or_path": "someone/model"}
        edit(folder / "config.json", model_type="lightglue", keypoint_detector_config=inner)
        with nothing_runs(code[1]), pytest.raises(ModelError):
            load(folder)


class TestOpenedIsDigested:
    @pytest.mark.parametrize("place", ["sub/w.safetensors", "../w.safetensors", "w.bin", "/w.safetensors", 1])
    def test_weights_elsewhere(self, models: dict[str, Path], tmp_path: Path, place: object) -> None:
        folder = shard(models["bert"], tmp_path / "model")
        weights = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
        key = next(iter(weights))
        if isinstance(place, str) and not place.startswith("/"):
            (folder / place).parent.mkdir(exist_ok=True)
            shutil.copy(folder / weights[key], folder / place)
        edit(folder / "model.safetensors.index.json", weight_map={**weights, key: place})
        with pytest.raises(ModelError, match=r"weight_map: expected names of \*\.safetensors in the same"):
            load(folder)

    def test_the_files_that_are_digested_are_those_that_are_read(
        self, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A folder that has nothing but those gives the same; a flipped byte in any other changes nothing."""
        monkeypatch.chdir(Path(__file__).parents[2])
        for kind in ("bert", "xlm-roberta", "roberta"):
            folder = shard(models[kind], tmp_path / kind)
            (folder / "adapter_model.safetensors").write_bytes(b"x")
            (folder / "adapter_config.json").write_text("{")
            (folder / "generation_config.json").write_text("{")
            (folder / "chat_template.jinja").write_text("{{")
            (folder / "sub").mkdir()
            recipe = recipe_of(folder)
            names = embedding_files(recipe, "bert", digest=str)
            assert {name for name in names if "-of-" in name}
            bare = tmp_path / f"bare-{kind}"
            bare.mkdir()
            for name in names:
                shutil.copy(folder / name, bare / name)
            assert_equal(load(folder), load(bare))
            os.unlink(bare / next(name for name in names if name.endswith("2-of-00002.safetensors")))
            with pytest.raises(ModelError, match="not there"):
                load(bare)

    def test_those_of_a_translator(
        self, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(Path(__file__).parents[2])
        folder = Path(shutil.copytree(models["marian"], tmp_path / "model"))
        names = translator_files(translator_recipe(folder), digest=str)
        for path in folder.iterdir():
            if path.name not in names:
                path.unlink()
        translate(folder)
        (folder / "vocab.json").write_text("")
        with pytest.raises(ModelError, match=r"vocab\.json: 0 bytes, expected some"):
            translator_files(translator_recipe(folder))

    def test_links_as_in_the_hub_s_cache(self, models: dict[str, Path], tmp_path: Path) -> None:
        folder = tmp_path / "snapshots/abc"
        folder.mkdir(parents=True)
        (tmp_path / "blobs").mkdir()
        for number, path in enumerate(models["xlm-roberta"].iterdir()):
            shutil.copy(path, tmp_path / f"blobs/{number}")
            (folder / path.name).symlink_to(f"../../blobs/{number}")
        assert_equal(load(folder), load(models["xlm-roberta"]))


def recipe_of(folder: Path) -> Any:
    changes = ["embeddings.bert.hub=", f"embeddings.bert.checkpoint={folder}"]
    return load_recipe("de", [*changes, 'tagger.embeddings=["bert"]'])


def translator_recipe(folder: Path) -> Any:
    return load_recipe("de", ["translator.kind=transformers", f'translator.checkpoint="{folder}"'])


def shard(folder: Path, place: Path) -> Path:
    """The same model in two files of weights, and the list of them."""
    shutil.copytree(folder, place)
    weights = load_file(place / "model.safetensors")
    (place / "model.safetensors").unlink()
    names = sorted(weights)
    where = {}
    for number, own in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in own}, place / file, {"format": "pt"})
        where |= dict.fromkeys(own, file)
    (place / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return place


def assert_equal(one: Bert, other: Bert) -> None:
    for found, expected in zip(one.embed(SENTENCES), other.embed(SENTENCES), strict=True):
        np.testing.assert_array_equal(found, expected)


def by_transformers(folder: Path) -> Bert:
    """Opened by transformers' own choice of classes, pointed at the folder."""
    tokenizer: Any = AutoTokenizer
    return Bert(
        AutoModel.from_pretrained(folder), tokenizer.from_pretrained(folder, add_prefix_space=True),
        BertRecipe(checkpoint="x"), name=str(folder), device="cpu",
    )  # fmt: skip


class TestTheSameNumbers:
    """To the last bit, as transformers' own loader gives on the same folder."""

    @pytest.mark.parametrize("kind", NAMES)
    def test_states(self, models: dict[str, Path], kind: str) -> None:
        assert_equal(load(models[kind]), by_transformers(models[kind]))

    @pytest.mark.parametrize("kind", NAMES)
    def test_states_of_shards(self, models: dict[str, Path], tmp_path: Path, kind: str) -> None:
        folder = shard(models[kind], tmp_path / "model")
        assert_equal(load(folder), by_transformers(folder))
        assert_equal(load(folder), load(models[kind]))

    @pytest.mark.parametrize("kind", ["bert", "distilbert", "electra", "roberta"])
    def test_words_without_tokenizer_json(self, models: dict[str, Path], tmp_path: Path, kind: str) -> None:
        folder = Path(shutil.copytree(models[kind], tmp_path / "model"))
        (folder / "tokenizer.json").unlink()
        assert_equal(load(folder), by_transformers(folder))

    @pytest.mark.parametrize("kind", ["camembert", "deberta-v2", "xlm-roberta"])
    def test_sentencepiece_without_tokenizer_json(
        self, models: dict[str, Path], tmp_path: Path, kind: str
    ) -> None:
        folder = Path(shutil.copytree(models[kind], tmp_path / "model"))
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            (folder / name).unlink()
        train_vocabulary(TEXT, folder / "pieces", 100)
        (folder / "pieces").rename(
            folder / ("spm.model" if kind == "deberta-v2" else "sentencepiece.bpe.model")
        )
        enlarge(folder, 120)
        assert_equal(load(folder), by_transformers(folder))

    def test_an_old_checkpoint_of_a_task(self, models: dict[str, Path], tmp_path: Path) -> None:
        """Weights below ``bert.``, LayerNorm's with their names of TensorFlow, half precision."""
        folder = Path(shutil.copytree(models["bert"], tmp_path / "model"))
        model = BertForMaskedLM.from_pretrained(folder).half()
        weights = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"):
                weight.clone() for name, weight in model.state_dict().items()
        }  # fmt: skip
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        assert_equal(load(folder), by_transformers(folder))

    def test_pieces_that_were_added(self, models: dict[str, Path], tmp_path: Path) -> None:
        """In each of the files where transformers looks for them."""
        folder = Path(shutil.copytree(models["bert"], tmp_path / "model"))
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)  # type: ignore[no-untyped-call]
        tokenizer.add_tokens(["Köln"])
        tokenizer.add_special_tokens({"additional_special_tokens": ["<x>"]})
        tokenizer.save_pretrained(folder)
        enlarge(folder, len(tokenizer) + 3)
        assert (folder / "added_tokens.json").exists() or "Köln" in (folder / "tokenizer.json").read_text()
        assert_equal(load(folder), by_transformers(folder))
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        del settings["added_tokens_decoder"]
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        assert_equal(load(folder), by_transformers(folder))
        (folder / "tokenizer.json").unlink()
        (folder / "added_tokens.json").write_text(
            json.dumps({"Köln": len(tokenizer) - 2, "<x>": len(tokenizer) - 1})
        )
        assert_equal(load(folder), by_transformers(folder))

    @pytest.mark.parametrize("shared", [True, False])
    @pytest.mark.parametrize("safe", [True, False])
    def test_translators(self, tmp_path: Path, shared: bool, safe: bool) -> None:
        folder = make_marian(tmp_path / "model", shared=shared, safe=safe)
        model: Any = MarianMTModel.from_pretrained(folder, attn_implementation="eager")
        ours = translate(folder).model.start.args[0]  # type: ignore[attr-defined]
        theirs = model.eval().state_dict()
        assert ours.state_dict().keys() == theirs.keys()
        assert all(torch.equal(weight, theirs[name]) for name, weight in ours.state_dict().items())
        words = {"input_ids": torch.tensor([[3, 5, 8, 0]]), "decoder_input_ids": torch.tensor([[9, 4, 7]])}
        one, other = ours(**words, output_attentions=True), model(**words, output_attentions=True)
        assert torch.equal(one.logits, other.logits)
        for layer, expected in zip(one.cross_attentions, other.cross_attentions, strict=True):
            assert torch.equal(layer, expected)

    def test_notes_of_published_models_do_no_harm(self, models: dict[str, Path], tmp_path: Path) -> None:
        """As opus-mt, BERT and XLM-R carry them."""
        note = {
            "_name_or_path": "Helsinki-NLP/opus-mt-de-en", "transformers_version": "4.22.0.dev0",
            "architectures": ["MarianMTModel"], "bad_words_ids": [[58100]], "torch_dtype": "float16",
            "id2label": {"0": "LABEL_0"}, "label2id": {"custom_entity": 0, "backbone": 1},
            "trust_remote_code": False, "backbone": None, "normalize_before": False,
        }  # fmt: skip
        words = {
            "name_or_path": "bert-base", "tokenizer_file": "/x/y.json", "model_max_length": 10**30,
            "special_tokens_map_file": "/x/y", "tokenizer_class": "BertTokenizer",
            "never_split": None, "chat_template": "{{ x }}",
        }  # fmt: skip
        for kind, opener in (("bert", load), ("marian", translate)):
            folder = Path(shutil.copytree(models[kind], tmp_path / kind))
            edit(folder / "config.json", **note)
            if kind == "bert":
                edit(folder / "tokenizer_config.json", **words)
                assert_equal(load(folder), load(models[kind]))
            else:
                opener(folder)  # type: ignore[operator]

    def test_a_word_may_be_called_like_a_setting(self, models: dict[str, Path], tmp_path: Path) -> None:
        """BERT's vocabulary has "backbone"."""
        folder = Path(shutil.copytree(models["bert"], tmp_path / "model"))
        words = (folder / "vocab.txt").read_text().split("\n")
        words[words.index("the")] = "backbone"
        (folder / "vocab.txt").write_text("\n".join(words))
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        tokenizer["model"]["vocab"]["backbone"] = tokenizer["model"]["vocab"].pop("the")
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        (folder / "added_tokens.json").write_text(json.dumps({"auto_map": 16}))
        load(folder)


def enlarge(folder: Path, pieces: int) -> None:
    """A model that knows so many pieces."""
    model: Any = AutoModel.from_pretrained(folder)
    model.resize_token_embeddings(pieces)
    torch.nn.init.normal_(model.get_input_embeddings().weight)
    model.save_pretrained(folder)


def tokenizer_json(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    settings = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    change(settings)
    (folder / "tokenizer.json").write_text(json.dumps(settings), "utf-8")


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "length, a text": (
        lambda f: edit(f / "tokenizer_config.json", model_max_length="9"),
        r"tokenizer_config\.json: model_max_length: expected a number, found '9'"),
    "length, endless": (
        lambda f: edit(f / "tokenizer_config.json", model_max_length=float("inf")), "expected a number"),
    "a piece, a list": (
        lambda f: edit(f / "tokenizer_config.json", unk_token=["x"]), "unk_token: expected a piece"),
    "pieces, no table": (
        lambda f: edit(f / "tokenizer_config.json", added_tokens_decoder=[1]), "expected pieces by their"),
    "another tokenizer": (
        lambda f: edit(f / "tokenizer_config.json", tokenizer_class="PegasusTokenizer"),
        "its tokenizer is of the class 'PegasusTokenizer'; those that are opened here are Bert"),
    "tokenizer, a number": (
        lambda f: edit(f / "tokenizer_config.json", tokenizer_class=3), "of the class 3"),
    "added, no numbers": (
        lambda f: (f / "added_tokens.json").write_text('{"x": "y"}'), "expected a number for each piece"),
    "a width, a text": (lambda f: edit(f / "config.json", hidden_size="12"), "hidden_size: expected a whole"),
    "an activation": (lambda f: edit(f / "config.json", hidden_act="own/act"), "cannot open this model"),
    "layers without end": (
        lambda f: edit(f / "config.json", num_hidden_layers=10**6), r"num_hidden_layers: 1000000, but \d+ w"),
    "a width without end": (
        lambda f: edit(f / "config.json", intermediate_size=2**30), r"a model of \d+ numbers, its weights"),
    "settings, huge": (
        lambda f: (f / "config.json").write_text(" " * (1 << 24) + "{}"), "16777218 bytes, expected fewer"),
    "words, empty": (lambda f: (f / "tokenizer.json").write_text(""), "0 bytes, expected some"),
    "a panic when it is opened": (
        lambda f: tokenizer_json(f, lambda own: own.update(
            normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        "cannot open this model: Precompiled: "),
    "a panic when it is used": (
        lambda f: tokenizer_json(f, lambda own: own.update(
            post_processor={"type": "TemplateProcessing", "pair": [], "special_tokens": {}, "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]})),
        "cannot open this model: no entry found for key"),
    "a number beyond the model": (
        lambda f: tokenizer_json(f, lambda own: own["model"]["vocab"].update(abc=99)),
        "a number that its model of 18 pieces lacks"),
    "nested deep": (
        lambda f: (f / "tokenizer.json").write_text("[" * 10**5), r"damaged \(nested too deep\)"),
    "weights of another framework": (
        lambda f: save_file(load_file(f / "model.safetensors"), f / "model.safetensors", {"format": "tf"}),
        "weights for 'tf'"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_damaged_is_one_line(
    models: dict[str, Path], tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(models["bert"], tmp_path / "model"))
    change, message = DAMAGED[case]
    change(folder)
    capfd.readouterr()
    with pytest.raises((MissingError, ModelError), match=message) as caught:
        load(folder).embed(SENTENCES)
    assert str(caught.value).startswith(str(folder))
    assert str(caught.value).isprintable()
    assert capfd.readouterr().err == ""
