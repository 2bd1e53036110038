"""The English tagger's states: ours against flair's ``predict`` on the same translations."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from flair.data import Sentence
from flair.embeddings import CharacterEmbeddings, FlairEmbeddings
from flair.models import SequenceTagger
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from backattn.english.flair import FlairTagger, _batches
from backattn.models.flair_serialisation import BatchedCharacters, WordStates, load_tagger
from benchmarks.materials import english_bytes, translations
from benchmarks.measure import Row, compare, condition

SENTENCES, SHARD, COMPARED = 800, 400, 100
BATCH_TOKENS = 4000  # as in a recipe that does not say
TOLERANCE = 1e-4


def rows(repeats: int) -> Iterator[Row]:
    """Tokens a second, both stages of reading (states and tags) included."""
    torch.set_num_threads(1)
    model, data = english_bytes()
    text, sentences = translations(SENTENCES)
    tagger = FlairTagger.from_bytes(data, name=model, batch_tokens=BATCH_TOKENS, device="cpu")
    peer_tagger = _as_flair_has_it(load_tagger(data, model))
    tokens = float(sum(map(len, sentences)))
    inputs = _inputs(tagger, sentences)
    layers = tagger._tagger

    def ours() -> float:
        for start in range(0, len(sentences), SHARD):
            tagger.read(sentences[start : start + SHARD])
        return tokens

    def peer() -> float:
        peer_tagger.predict([Sentence(list(words)) for words in sentences], embedding_storage_mode="none")
        return tokens

    def floor() -> float:
        with torch.inference_mode():
            for batch, lengths in inputs:
                packed = pack_padded_sequence(batch, lengths, batch_first=True)
                layers.linear(pad_packed_sequence(layers.rnn(packed)[0], batch_first=True)[0])
        return tokens

    difference = _difference(tagger, peer_tagger, sentences[:COMPARED])
    yield condition(
        "English states", f"states of a forward hook within {TOLERANCE:.0e}", held=difference < TOLERANCE,
        found=f"{difference:.1e}",
    )  # fmt: skip
    yield compare(
        part="English states", peer_name="flair predict()", unit="tokens", ours=ours, peer=peer,
        repeats=repeats, must=3.0, floor=floor, floor_name="flair's LSTM and linear layer alone (must: 0.8)",
        note=f"{model}; {text}; one thread; states within {difference:.0e} of a forward hook's",
    )  # fmt: skip


def _as_flair_has_it(tagger: SequenceTagger) -> SequenceTagger:
    for module in tagger.modules():
        if type(module) is BatchedCharacters:
            module.__class__ = CharacterEmbeddings  # type: ignore[assignment]
        elif type(module) is WordStates:
            module.__class__ = FlairEmbeddings  # type: ignore[assignment]
    return tagger


def _inputs(
    tagger: FlairTagger, sentences: Sequence[tuple[str, ...]]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The batches that ``read`` makes, embedded."""
    made = []
    with torch.inference_mode():
        for start in range(0, len(sentences), SHARD):
            shard = sentences[start : start + SHARD]
            for batch in _batches(shard, BATCH_TOKENS):
                words = [shard[i] for i in batch]
                made.append((tagger._embed(words), torch.tensor([len(tokens) for tokens in words])))
    return made


def _difference(tagger: FlairTagger, peer: SequenceTagger, sentences: Sequence[tuple[str, ...]]) -> float:
    """Largest, between our states and those that flair hands to its linear layer, a sentence at a time.

    flair's own character embeddings mix up words that a sentence repeats, so those sentences are left out.
    """
    once = [words for words in sentences if len(set(words)) == len(words)]
    seen: list[torch.Tensor] = []
    hook = peer.linear.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    for words in once:
        peer.predict([Sentence(list(words))], embedding_storage_mode="none")
    hook.remove()
    states = [reading.states for reading in tagger.read(once)]
    return max(float(np.abs(own - other[0].numpy()).max()) for own, other in zip(states, seen, strict=True))
