"""Stage two: an epoch against flair's trainer, a plain torchcrf loop and a bare LSTM; the cache; new text.

Where ``BACKATTN_DATA`` holds CoNLL-2002 Spanish, on a sample of it, else on the embedded sample. T (d = 512)
comes from a store on disk, but is made up: it knows three tags in four.
"""

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from msgspec import structs
from torch import nn
from tqdm import tqdm

from backattn.common.device import has_bfloat16
from backattn.corpus import Corpus, Sentence
from backattn.corpus.formats import read_corpus
from backattn.demo.sample import write_sample
from backattn.english.flair import FlairTagger
from backattn.experiments.trainer import StoredVectors
from backattn.features.attention import transfer_attention
from backattn.features.entries import transfer_entries, translation_entries
from backattn.recipe import TaggerRecipe, TransferRecipe, data_path, load_recipe
from backattn.store.layout import Entry, Header, Origin, encode_lines, transfer_columns
from backattn.store.reader import StoreReader
from backattn.store.writer import write_store
from backattn.tagger.dataset import encode, prediction_order, training_order
from backattn.tagger.prediction import decode
from backattn.tagger.preparation import prepare
from backattn.tagger.run import RunFolder
from backattn.tagger.run_spec import RunSpec
from backattn.tagger.training import _Training
from backattn.translation.fairseq import FairseqTranslator
from benchmarks.materials import TRANSLATOR, english_bytes, workplace
from benchmarks.measure import Row, compare, condition, rate
from benchmarks.tagger_peers import FlairPeer, TorchcrfPeer, seed_all

TRAIN, DEV, NEW, STAGE_ONE = 600, 150, 400, 200
WIDTH = 512
NOISE = 0.06  # F1 of two seeds after a few epochs


def rows(repeats: int) -> Iterator[Row]:
    """Everything with one thread."""
    torch.set_num_threads(1)
    text, corpus, recipe = labelled(TRAIN, DEV)
    with tempfile.TemporaryDirectory() as name:
        vectors = stored(Path(name), corpus)
        # Both sides have the same features: flair has an LSTM over characters, the plain loop a convolution.
        like_flair = structs.replace(recipe, characters="lstm")
        ours = Ours(Path(name) / "flair", corpus, vectors, like_flair)
        flair = FlairPeer(ours.setup, like_flair)
        yield from _epoch(repeats, text, ours, flair, "flair's ModelTrainer", 3.0)
        yield from _new_text(repeats, text, ours, flair)
        ours = Ours(Path(name) / "torchcrf", corpus, vectors, recipe)
        plain = TorchcrfPeer(ours.setup, recipe)
        yield from _epoch(repeats, text, ours, plain, "a plain loop with torchcrf", 2.0)
        if has_bfloat16("cpu"):
            reduced = structs.replace(recipe, precision="bfloat16")
            fast = Ours(Path(name) / "bfloat16", corpus, vectors, reduced)
            yield from _epoch(
                repeats, f"{text}, tagger.precision = bfloat16", fast, plain, "the same in float32", None
            )
        if TRANSLATOR:
            yield from _cache(repeats, text, ours)


def labelled(train: int, dev: int) -> tuple[str, Corpus, TaggerRecipe]:
    """What the text is, the text, and how its recipe trains."""
    spanish = load_recipe("es", ())
    if data_path(spanish.corpus.train).is_file():
        corpus, name, recipe = read_corpus(spanish.corpus), "CoNLL-2002 Spanish", spanish.tagger
    else:
        with workplace() as folder:
            sample = load_recipe("sample", ())
            write_sample(folder / "cache" / "sample" / "data")
            corpus, name, recipe = read_corpus(sample.corpus), "the embedded sample", sample.tagger
    corpus = Corpus(_spread(corpus.train, train), _spread(corpus.dev, dev), _spread(corpus.test, NEW))
    return f"{len(corpus.train)} + {len(corpus.dev)} sentences of {name}", corpus, recipe


def stored(folder: Path, corpus: Corpus) -> StoredVectors:
    """A store of made-up T: noise, and for three tokens in four a direction of their tag."""
    rng = np.random.default_rng(0)
    directions: dict[str, np.ndarray] = {}
    origin = Origin(started="2026-01-01", device="cpu", versions={}, commit="", opened="bench")
    entries: dict[bytes, Entry] = {}
    for sentence in corpus.unique:
        known = [tag if rng.random() < 0.75 else "O" for tag in sentence.tags]
        rows = np.stack([directions.setdefault(tag, rng.normal(0, 0.3, WIDTH)) for tag in known])
        entries[sentence.key] = {
            "vectors": (rows + rng.normal(0, 0.5, rows.shape)).astype(np.float16),
            "english_tags": encode_lines(()),
            "origin": np.frombuffer(bytes.fromhex(origin.id), np.uint8),
        }
    header = Header(
        kind="transfer", recipe_id="bench", recipe={}, corpora={}, models={}, versions={}, device="cpu",
        commit="",
    )  # fmt: skip
    path, columns = folder / "made-up.h5", transfer_columns("float16", WIDTH)
    write_store(path, header, columns, list(entries), entries, counts={}, origins={origin.id: origin})
    return StoredVectors.of(StoreReader(path))


class Ours:
    """A training of stage two that is led from epoch to epoch."""

    def __init__(self, folder: Path, corpus: Corpus, vectors: StoredVectors, recipe: TaggerRecipe) -> None:
        folder.mkdir()
        seed_all(1)
        spec = RunSpec(corpus, recipe, "words+transfer", 1, {"corpus": "bench"}, transfer=vectors)
        self.setup = prepare(spec, device="cpu")
        self.batch = recipe.batch
        self.tokens = float(self.setup.train.lengths.sum())
        self.training = _Training(spec, self.setup, RunFolder(folder), threads=1)
        self.state = self.training._resume()

    def epoch(self) -> float:
        """One more epoch with its score on dev and its files; gives the tokens that it learnt from."""
        self.state = self.training._after_epoch(self.state, tqdm(disable=True))
        return self.tokens

    def f1(self) -> float:
        """On dev, after the last epoch."""
        return float(self.state.history[-1]["dev_f1"])


class Floor:
    """A bare ``nn.LSTM`` over the same batches: forward and backward in training, forward on dev."""

    def __init__(self, ours: Ours) -> None:
        words = ours.setup.network.words
        assert words is not None
        self.ours, self.width = ours, words.width
        self.lstm = nn.LSTM(self.width, 256, batch_first=True, bidirectional=True)
        longest = max(int(part.lengths.max()) for part in (ours.setup.train, ours.setup.dev))
        self.numbers = torch.randn(max(2048, ours.batch * longest) * self.width)

    def epoch(self) -> float:
        """As much as one of our epochs."""
        train, dev = self.ours.setup.train.lengths, self.ours.setup.dev.lengths
        for indices in training_order(train, self.ours.batch, np.random.default_rng(0)):
            self.lstm(self._input(train[indices]).requires_grad_())[0].sum().backward()
            self.lstm.zero_grad()
        with torch.inference_mode():
            for indices in prediction_order(dev):
                self.lstm(self._input(dev[indices]))
        return self.ours.tokens

    def _input(self, lengths: np.ndarray) -> torch.Tensor:
        b, m = len(lengths), int(lengths.max())
        return self.numbers[: b * m * self.width].view(b, m, self.width).detach()


def _epoch(
    repeats: int, text: str, ours: Ours, peer: FlairPeer | TorchcrfPeer, name: str, must: float | None
) -> Iterator[Row]:
    def one_more() -> float:
        peer.epoch()
        return ours.tokens

    row = compare(
        part="stage two, an epoch", peer_name=name, unit="tokens", ours=ours.epoch, peer=one_more,
        repeats=repeats, must=must, floor=Floor(ours).epoch,
        floor_name="a bare nn.LSTM, float32 (aim: 0.7)",
    )  # fmt: skip
    mine, theirs = ours.f1(), peer.f1()
    found = (
        f"dev F1 after {repeats + 1} epochs {mine:.3f}, peer {theirs:.3f}" if must else f"dev F1 {mine:.3f}"
    )
    features = f"characters: {ours.training.recipe.characters}; dev scoring and files included"
    yield dataclasses.replace(row, note=f"{text}; one thread; {features}; {found}")
    if must:  # else the peer has learnt for longer
        yield condition(
            f"stage two after {repeats + 1} epochs", f"dev F1 of {name} within {NOISE}",
            held=abs(mine - theirs) < NOISE, found=f"{mine:.3f}, peer {theirs:.3f}",
        )  # fmt: skip


def _new_text(repeats: int, text: str, ours: Ours, flair: FlairPeer) -> Iterator[Row]:
    """Both taggers have learnt from the same text and are given T."""
    sentences = [sentence.tokens for sentence in ours.setup.corpus.test]
    vocabulary, sources, network = ours.setup.vocabulary, ours.setup.sources, ours.setup.network

    def tag(tokens: list[tuple[str, ...]]) -> float:
        decode(network, vocabulary, encode(tokens, vocabulary), sources)
        return float(sum(map(len, tokens)))

    def tag_as_flair(tokens: list[tuple[str, ...]]) -> float:
        flair.predict(tokens)
        return float(sum(map(len, tokens)))

    yield compare(
        part="tagging new text, low-resource side", peer_name="flair's predict", unit="tokens",
        ours=lambda: tag(sentences), peer=lambda: tag_as_flair(sentences), repeats=repeats,
        note=f"{len(sentences)} sentences, T given, load excluded; one thread",
    )  # fmt: skip
    one = [sorted(sentences, key=len)[len(sentences) // 2]]
    row = compare(
        part="tagging one sentence", peer_name="flair's predict", unit="sentences",
        ours=lambda: tag(one) / len(one[0]), peer=lambda: tag_as_flair(one) / len(one[0]),
        repeats=10 * repeats, note=f"{len(one[0])} tokens, T given, load excluded; one thread",
    )  # fmt: skip
    yield dataclasses.replace(row, figure=f"{1000 / row.rate:.1f} ms")


def _cache(repeats: int, text: str, ours: Ours) -> Iterator[Row]:
    """What an epoch would take if it made T itself: the rate of one pass over a sample, for all sentences."""
    train, dev = ours.setup.train, ours.setup.dev
    sentences = [*train.tokens, *dev.tokens]
    translator = FairseqTranslator.load(
        Path(TRANSLATOR), load_recipe("es", ()).own_translator[0], device="cpu"
    )
    name, data = english_bytes()
    english = FlairTagger.from_bytes(data, name=name, batch_tokens=4000, device="cpu")
    sample = [Sentence(tokens, ("O",) * len(tokens)) for tokens in sentences[:: len(sentences) // STAGE_ONE]]
    source = ours.setup.sources.transfer
    assert source is not None

    def read() -> float:
        for part, order in ((train, training_order(train.lengths, ours.batch, np.random.default_rng(0))),
                            (dev, prediction_order(dev.lengths))):  # fmt: skip
            for indices in order:
                part.rows(indices, source)
        return float(len(sentences))

    def make() -> float:
        translated = translation_entries(translator, sample)
        keyed = {sentence.key: entry for sentence, entry in zip(sample, translated, strict=True)}
        transfer_entries(english, transfer_attention(TransferRecipe()), TransferRecipe(), sample, keyed)
        return float(len(sample))

    models = f"translator {Path(TRANSLATOR).name} (beam 4), English tagger {name}"
    note = f"{len(sample)} sentences of {text}; {models}; one thread"
    yield compare(
        part="T of a sentence, from the cache", peer_name="made anew", unit="sentences", ours=read, peer=make,
        repeats=repeats, must=100.0, note=note,
    )  # fmt: skip
    making = len(sentences) / rate(make)

    def recomputing() -> float:
        start = time.perf_counter()
        tokens = ours.epoch()
        seconds = time.perf_counter() - start
        return tokens * seconds / (seconds + making)  # compare divides by the seconds of the epoch

    yield compare(
        part="an epoch with the cache", peer_name="T made anew in every epoch (computed)", unit="tokens",
        ours=ours.epoch, peer=recomputing, repeats=repeats, must=100.0,
        note=f"the epoch's own seconds, and {making:.0f} s to make T of all its sentences at that rate",
    )  # fmt: skip


def _spread(sentences: tuple[Sentence, ...], count: int) -> tuple[Sentence, ...]:
    """So many of them, from the whole of the file."""
    step = max(1, len(sentences) // count)
    return sentences[::step][:count]
