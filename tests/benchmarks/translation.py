"""Translation with attention against ``fairseq-generate --print-alignment soft``, run in this process.

fairseq's own ``main`` of generate does everything: it reads the pieces, cuts the batches, searches, and
prints hypotheses and attention, from which the comparison is read back. Only loading the model is left out,
on both sides. It is given pieces, ours begins with tokens. One thread, beam and length limits are the same.
"""

import argparse
import contextlib
import io
import logging
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from unittest import mock

import numpy as np
import sacrebleu
import torch
from fairseq import checkpoint_utils, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import generate
from msgspec import structs

from backattn.common.device import has_bfloat16
from backattn.common.errors import MissingError
from backattn.recipe import FairseqRecipe, load_recipe
from backattn.training.translator.parallel_corpus import read_pairs
from backattn.translation import Translation
from backattn.translation.attention_merging import Array, copy_unknown, cut_segments, merge_pieces
from backattn.translation.fairseq import FairseqTranslator
from backattn.translation.fairseq_fconv import ConvolutionalModel, Dense
from backattn.translation.sentencepieces import SentencePieceModel
from backattn.translation.tokenisation import detokenise, tokenise
from benchmarks.materials import TRANSLATOR, Tokens, sources
from benchmarks.measure import Row, compare, condition, rate
from tiny_translator import make_translator

# Multiples of eight: fairseq-generate loses the sentences that are over.
SENTENCES, REFERENCES = 304, 1000
BATCHES = (("--batch-size", "32"), ("--batch-size", "64"), ("--batch-size", "128"), ("--max-tokens", "4000"))
# The rows of the floor's products: what a batch has while nearly all its sentences are being translated.
ROWS = 512
TOLERANCE = 1e-3  # of A
SAME_BLEU = 0.1


def rows(repeats: int) -> Iterator[Row]:
    """In float32, where the hypotheses should be equal, and in bfloat16, where BLEU should."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, quiet():
        folder = Path(TRANSLATOR or make_translator(Path(name) / "tiny", source="es"))
        model = f"checkpoint {folder.name}" if TRANSLATOR else "tiny fconv with random weights"
        # Whole sentences, as fairseq translates them; the recipe itself cuts them in segments.
        recipe = structs.replace(load_recipe("es", ()).own_translator[0], segment_pieces=175)
        text, sentences = sources(SENTENCES)
        if not TRANSLATOR:  # it never ends by itself, and reads 59 pieces
            recipe = structs.replace(recipe, max_len_a=0.0, max_len_b=30)
            text, sentences = f"{SENTENCES} invented sentences of 10 letters", _letters(SENTENCES)
        exact = FairseqTranslator.load(folder, recipe, device="cpu")
        reduced = FairseqTranslator.load(folder, structs.replace(recipe, precision="bfloat16"), device="cpu")
        peer = min((FairseqGenerate(folder, recipe, sentences, batch) for batch in BATCHES), key=_seconds)
        floor, gigaflops = _products(exact, sentences)
        same_text, same_attention = _equal(exact, peer, limits=recipe.max_len_a > 0)
        yield from (same_text, same_attention)
        kinds = [(exact, f"{same_text.figure}; A: {same_attention.figure}")]
        if has_bfloat16("cpu"):  # else it is float32 once more
            kinds += [(reduced, f"bfloat16; {_processor()}; {_same(reduced, exact, sentences)}")]
        for translator, agreement in kinds:
            yield compare(
                part="translation with attention", unit="sentences",
                peer_name=f"`fairseq-generate {' '.join(peer.batching)} --print-alignment soft`, float32",
                ours=_translating(translator, sentences), peer=peer.run, repeats=repeats, must=1.5, aim=3.0,
                floor=floor, floor_name=f"its bare products with weights, float32 ({gigaflops:.0f} GFLOP)",
                note=f"{model}, {text}, beam {recipe.beam}, one thread; {agreement}",
            )  # fmt: skip
        yield from _bleu(folder, recipe, peer.batching, exact, reduced)


class FairseqGenerate:
    """fairseq's command line program on some sentences, its model loaded before."""

    def __init__(
        self, model: Path, recipe: FairseqRecipe, sentences: Sequence[Tokens], batching: Sequence[str]
    ) -> None:
        self.batching, self.sentences = batching, sentences
        self.vocabulary = SentencePieceModel.load(model / "joint.model")
        self.printed = ""
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        lines = (" ".join(piece for token in tokens for piece in self._pieces(token)) for tokens in sentences)
        (folder / "test.es-en.es").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        for language in ("es", "en"):
            (folder / f"dict.{language}.txt").write_bytes((model / f"dict.{language}.txt").read_bytes())
        words = [
            str(folder), "--path", str(model / "checkpoint.pt"), "-s", "es", "-t", "en",
            "--gen-subset", "test", "--dataset-impl", "raw", "--beam", str(recipe.beam),
            "--max-len-a", str(recipe.max_len_a), "--max-len-b", str(recipe.max_len_b), "--cpu",
            "--print-alignment", "soft", "--num-workers", "0", "--no-progress-bar", *batching,
        ]  # fmt: skip
        arguments = options.parse_args_and_arch(options.get_generation_parser(), words)
        self._settings = convert_namespace_to_omegaconf(arguments)
        with torch.serialization.safe_globals([argparse.Namespace]):
            self._loaded = checkpoint_utils.load_model_ensemble(
                [str(model / "checkpoint.pt")], arg_overrides={"data": str(folder)}
            )

    def run(self) -> float:
        """Translate all."""
        output = io.StringIO()
        with mock.patch.object(checkpoint_utils, "load_model_ensemble", return_value=self._loaded):
            generate._main(self._settings, output)
        self.printed = output.getvalue()
        return len(self.sentences)

    @cached_property
    def translations(self) -> list[Translation]:
        """What it printed, brought from pieces to tokens."""
        lines = dict(line.split("\t", 1) for line in self.printed.split("\n") if line[:2] in ("H-", "A-"))
        return [
            self._translation(
                tokens,
                lines[f"H-{number}"].split("\t")[1].split(" "),
                # shape: (target, source) as it is printed
                np.array([column.split(",") for column in lines[f"A-{number}"].split(" ")], np.float32).T,
            )
            for number, tokens in enumerate(self.sentences)
        ]

    def _translation(self, tokens: Tokens, pieces: list[str], attention: Array) -> Translation:
        (cut,) = cut_segments([self._pieces(token) for token in tokens], 10**6)
        words = self.vocabulary.words(pieces)
        merged = merge_pieces(attention, [owner for owner, _ in cut], len(tokens), words)
        return Translation(copy_unknown(words.texts, merged, tokens), merged)

    def _pieces(self, token: str) -> list[str]:
        return self.vocabulary.pieces(token)


def _letters(count: int) -> tuple[Tokens, ...]:
    dice = random.Random(0)
    return tuple(tuple(dice.choices("aehinorstu", k=10)) for _ in range(count))


def _equal(ours: FairseqTranslator, peer: FairseqGenerate, *, limits: bool) -> tuple[Row, Row]:
    """Whether both do the same work: the same hypotheses, and for those the same A.

    Where fairseq writes symbols that stand for nothing (a random model does), ours must not.

    :param limits: sentences have limits of their own. Then one that runs to its limit is left out: fairseq
        takes the limit from the padded batch.
    """
    pairs = list(zip(ours.translate(peer.sentences), peer.translations, strict=True))
    fair = [
        (our, their)
        for our, their in pairs
        if not (limits and our.limited)
        and not any("madeupword" in word or "<s>" in word for word in their.english)
    ]
    equal = [(our, their) for our, their in fair if our.english == their.english]
    differences = [float(np.abs(our.attention - their.attention).max()) for our, their in equal]
    difference = max(differences, default=float("nan"))
    return (
        condition(
            "translation, hypotheses", "98 % are those of fairseq-generate",
            held=len(equal) >= max(1, 0.98 * len(fair)),
            found=f"{len(equal)} of {len(fair)} hypotheses equal",
        ),
        condition(
            "translation, A", f"that of fairseq-generate within {TOLERANCE:.0e}",
            held=difference < TOLERANCE, found=f"{difference:.0e}",
        ),
    )  # fmt: skip


def _same(ours: FairseqTranslator, other: FairseqTranslator, sentences: Sequence[Tokens]) -> str:
    pairs = zip(ours.translate(sentences), other.translate(sentences), strict=True)
    same = sum(a.english == b.english for a, b in pairs)
    return f"{same} of {len(sentences)} hypotheses are those of float32"


def _processor() -> str:
    """What the processor has for bfloat16."""
    return f"processor: {torch.backends.cpu.get_cpu_capability()}"


def _bleu(
    folder: Path,
    recipe: FairseqRecipe,
    batching: Sequence[str],
    exact: FairseqTranslator,
    reduced: FairseqTranslator,
) -> Iterator[Row]:
    """BLEU of all three on the recipe's test file, where there is one and a real model."""
    _, training = load_recipe("es", ()).own_translator
    try:
        pairs = read_pairs(training.test)[0][:REFERENCES] if TRANSLATOR else []
    except MissingError:
        pairs = []
    if not pairs:
        return
    sentences = [tuple(tokenise(pair.foreign, "es", "word")) for pair in pairs]
    peer = FairseqGenerate(folder, recipe, sentences, batching)
    peer.run()
    found = {
        "fairseq-generate": peer.translations,
        "float32": exact.translate(sentences),
        "bfloat16": reduced.translate(sentences),
    }
    yield from bleu_conditions({name: _score(made, pairs) for name, made in found.items()}, len(pairs))


def bleu_conditions(scores: dict[str, float], pairs: int) -> Iterator[Row]:
    """Whether the three are as good as each other."""
    figures = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
    part = f"translation, BLEU on {pairs} test sentences"
    # In float32 the two differ in runaways alone, which fairseq lets run on when the batch is padded.
    yield condition(
        part, f"float32 no more than {SAME_BLEU} below fairseq-generate",
        held=scores["float32"] > scores["fairseq-generate"] - SAME_BLEU, found=figures,
    )  # fmt: skip
    yield condition(
        part, f"bfloat16 within {SAME_BLEU} of float32",
        held=abs(scores["bfloat16"] - scores["float32"]) < SAME_BLEU, found=figures,
    )  # fmt: skip


def _score(translations: Sequence[Translation], pairs: Sequence[tuple[str, str]]) -> float:
    english = [detokenise(translation.english) for translation in translations]
    return float(sacrebleu.corpus_bleu(english, [[reference for _, reference in pairs]]).score)


def _translating(translator: FairseqTranslator, sentences: Sequence[Tokens]) -> Callable[[], float]:
    return lambda: float(len(translator.translate(sentences)))


def _products(
    translator: FairseqTranslator, sentences: Sequence[Tokens]
) -> tuple[Callable[[], float], float]:
    """The products with weights that translating these sentences needs, in full batches, and how many GFLOP.

    Attention, softmax, search and everything in Python is left out.
    """
    count: dict[int, int] = {}
    layers: dict[int, Dense] = {}
    plain = Dense.__call__

    def counted(self: Dense, x: torch.Tensor) -> torch.Tensor:
        layers[id(self)] = self
        count[id(self)] = count.get(id(self), 0) + x[..., 0].numel()
        return plain(self, x)

    assert isinstance(translator.model.start.__self__, ConvolutionalModel)  # type: ignore[attr-defined]
    with mock.patch.object(Dense, "__call__", counted):
        translator.translate(sentences)
    inputs = {key: torch.randn(ROWS, layer.width) for key, layer in layers.items()}
    turns = {key: round(count[key] / ROWS) for key in layers}
    operations = sum(2 * count[key] * layer.width * len(layer.bias) for key, layer in layers.items())

    def run() -> float:
        with torch.inference_mode():
            for key, layer in layers.items():
                for _ in range(turns[key]):
                    layer(inputs[key])
        return len(sentences)

    return run, operations / 1e9


def _seconds(peer: FairseqGenerate) -> float:
    return min(1 / rate(peer.run) for _ in range(2))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """fairseq writes its whole configuration to the log at every start."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
