"""Training a translator: an epoch of ours against fairseq's own ``Trainer``, task and criterion.

The same pairs, the same architecture and settings, as many updates, one thread. Ours has what the recipe
says (bfloat16, 4,000 joint pieces, the leaner loss); fairseq has float32 and the 10,000 joint pieces of its
own examples, cut into as many batches. A rate counts English words, because pieces differ. What both know
at the end is measured on held-out pairs, in bits an English word.

``python -m benchmarks.translator_training ours`` (or ``fairseq``) trains one side until it translates, and
prints its BLEU.
"""

import argparse
import dataclasses
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sacrebleu
import torch
from fairseq.tasks.translation import TranslationTask
from fairseq.trainer import Trainer
from msgspec import structs

from backattn.common.errors import MissingError
from backattn.recipe import TranslatorTraining, load_recipe
from backattn.training.translator import fairseq_trainer
from backattn.training.translator.parallel_corpus import SentencePair, TrainingText, read_pairs
from backattn.training.translator.subword_data import PieceFiles, prepare
from backattn.translation.fairseq import FairseqTranslator
from backattn.translation.sentencepieces import SentencePieceModel
from backattn.translation.tokenisation import detokenise, tokenise
from benchmarks.materials import invented
from benchmarks.measure import Ratios, Row
from benchmarks.translation import quiet

PAIRS, HELD_OUT, PEER_PIECES = 1500, 100, 10_000
# What a translator is trained on that has to translate.
LONG_PAIRS, LONG_HELD_OUT, LONG_RATES = 20_000, 500, (0.5, 0.5, 0.5, 0.5, 0.2, 0.1)
LONG_TOKENS = 1000  # of a batch: few pairs need many updates


@dataclass(frozen=True)
class _Epoch:
    """:param bits: of a held-out English word."""

    words_per_second: float
    updates: int
    bits: float


def rows(repeats: int) -> Iterator[Row]:
    """One row."""
    torch.set_num_threads(1)
    _, recipe = load_recipe("es", ()).own_translator
    training = structs.replace(recipe, learning_rates=(0.5,), average=1)
    name, pairs = _pairs(training)
    with tempfile.TemporaryDirectory() as folder, quiet():
        ours = _pieces(Path(folder) / "ours", pairs, training)
        other = structs.replace(training, pieces=PEER_PIECES)
        peer = _pieces(Path(folder) / "peer", pairs, other)
        longer = _longest_side(peer) / _longest_side(ours)
        other = structs.replace(other, max_tokens=round(training.max_tokens * longer))
        turns = [(_ours(ours, training)[0], _fairseq(peer, other)[0]) for _ in range(repeats + 1)][1:]
    own, theirs = turns[-1]
    yield Row(
        part="training a translator", peer="fairseq's `Trainer`, float32, 10,000 joint pieces",
        unit="words", rate=statistics.median(own.words_per_second for own, _ in turns),
        ratio=Ratios.of([own.words_per_second / their.words_per_second for own, their in turns]), must=2.0,
        note=f"{name}, one epoch, {training.architecture}, one thread; updates {own.updates} and "
        f"{theirs.updates}; held out {own.bits:.2f} and {theirs.bits:.2f} bits a word; processor: "
        f"{torch.backends.cpu.get_cpu_capability()}",
    )  # fmt: skip


def _pairs(training: TranslatorTraining) -> tuple[str, list[SentencePair]]:
    news = next(file for file in training.parallel if file.exclude)
    try:
        found, _ = read_pairs(structs.replace(news, limit=PAIRS + HELD_OUT))
        return f"{PAIRS} pairs of {Path(news.path).stem}", found
    except MissingError:
        text = [" ".join(tokens) for tokens in invented(PAIRS + HELD_OUT)]
        return f"{PAIRS} invented pairs", [SentencePair(line, line) for line in text]


def _pieces(
    folder: Path, pairs: Sequence[SentencePair], training: TranslatorTraining, count: int = PAIRS
) -> PieceFiles:
    folder.mkdir()
    text = TrainingText(tuple(pairs[:count]), tuple(pairs[count:]), (), ())
    files = PieceFiles(folder, "es")
    prepare(text, files, units=("word", "word"), training=training, progress=False)
    return files


def _longest_side(files: PieceFiles) -> int:
    """What fairseq counts when it cuts batches, without the padding."""
    return sum(
        max(len(foreign), len(english)) + 1
        for foreign, english in zip(files.lines("train", "es"), files.lines("train", "en"), strict=True)
    )


def _count(files: PieceFiles, split: str, start: str = "") -> int:
    """Pieces and EOS, or the pieces that begin a word."""
    lines = files.lines(split, "en")
    return sum(piece.startswith(start) for line in lines for piece in line) + (0 if start else len(lines))


def _ours(files: PieceFiles, training: TranslatorTraining) -> tuple[_Epoch, Any]:
    """Train; gives the last epoch, and the model."""
    with tempfile.TemporaryDirectory() as work:
        *_, epoch = fairseq_trainer.train_model(
            dataclasses.replace(files), training, work=Path(work), progress=False
        )
        state = torch.load(Path(work) / f"epoch{epoch.epoch}.pt", weights_only=True)
        settings = fairseq_trainer._configuration(training, files)
        task = TranslationTask(settings.task, *[fairseq_trainer.build_dictionary(files)] * 2)
        model = task.build_model(settings.model)
        model.load_state_dict(state["model"])
    bits = math.log2(epoch.valid_perplexity) * _count(files, "valid") / _count(files, "valid", "▁")
    return _Epoch(_count(files, "train", "▁") / epoch.seconds, epoch.updates, bits), model


def _fairseq(files: PieceFiles, training: TranslatorTraining) -> tuple[_Epoch, Any]:
    """What ``fairseq-train`` does in its epochs, without its printing."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        settings = fairseq_trainer._configuration(training, files)
        dictionary = fairseq_trainer.build_dictionary(files)
        task = TranslationTask(settings.task, dictionary, dictionary)
        for split in ("train", "valid"):
            task.datasets[split] = fairseq_trainer._dataset(files, split, dictionary)
        torch.manual_seed(training.seed)
        model, criterion = task.build_model(settings.model), task.build_criterion(settings.criterion)
        trainer = Trainer(settings, task, model, criterion)
        iterator = trainer.get_train_iterator(epoch=1, load_dataset=False)
        for epoch in range(1, len(training.learning_rates) + 1):
            batches = iterator.next_epoch_itr(shuffle=True)
            trainer.begin_epoch(epoch)
            start = time.perf_counter()
            for sample in batches:
                trainer.train_step([sample])
            seconds = time.perf_counter() - start
            trainer.lr_step(epoch)
        held_out = trainer.get_valid_iterator("valid").next_epoch_itr(shuffle=False)
        nats = sum(float(task.valid_step(sample, model, criterion)[2]["nll_loss"]) for sample in held_out)
    bits = nats / math.log(2) / _count(files, "valid", "▁")
    return _Epoch(_count(files, "train", "▁") / seconds, trainer.get_num_updates(), bits), model


def _quality(side: str) -> None:
    """Train one side for long, so that it translates, and print its BLEU: half an hour for fairseq's."""
    torch.set_num_threads(1)
    recipe, training = load_recipe("es", ()).own_translator
    training = structs.replace(training, learning_rates=LONG_RATES, average=1, max_tokens=LONG_TOKENS)
    pairs, _ = read_pairs(structs.replace(training.parallel[0], limit=LONG_PAIRS + LONG_HELD_OUT))
    random.Random(0).shuffle(pairs)
    with tempfile.TemporaryDirectory() as name, quiet():
        if side == "fairseq":
            shorter = _pieces(Path(name) / "ours", pairs, training, LONG_PAIRS)
            training = structs.replace(training, pieces=PEER_PIECES)
            files = _pieces(Path(name) / "peer", pairs, training, LONG_PAIRS)
            tokens = round(training.max_tokens * _longest_side(files) / _longest_side(shorter))
            last, model = _fairseq(files, structs.replace(training, max_tokens=tokens))
        else:
            files = _pieces(Path(name) / "ours", pairs, training, LONG_PAIRS)
            last, model = _ours(files, training)
        dictionary = fairseq_trainer.build_dictionary(files)
        vocabulary = SentencePieceModel.load(
            Path(name) / ("peer" if side == "fairseq" else "ours") / "joint.model"
        )
        translator = FairseqTranslator([model], dictionary, dictionary, vocabulary, recipe, device="cpu")
        held_out = pairs[LONG_PAIRS:]
        found = translator.translate([tuple(tokenise(pair.foreign, "es", "word")) for pair in held_out])
    english = [detokenise(translation.english) for translation in found]
    bleu = sacrebleu.corpus_bleu(english, [[pair.english for pair in held_out]]).score
    print(
        f"{side}: {len(LONG_RATES)} epochs of {LONG_PAIRS} pairs of {Path(training.parallel[0].path).stem}, "
        f"{last.updates} updates, {last.words_per_second:.0f} words/s in the last epoch; "
        f"held out ({len(held_out)} pairs): {last.bits:.2f} bits a word, BLEU {bleu:.2f}"
    )


if __name__ == "__main__":
    _quality(*sys.argv[1:])
