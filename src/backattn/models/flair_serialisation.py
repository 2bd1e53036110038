"""Convert a flair ``SequenceTagger`` to ``tagger.safetensors`` and back.

flair's own files are pickles, and lose settings that a tagger needs: the number in the name of one-hot
embeddings (and with it the order of a stack), ``with_whitespace``, a character model's GRU, a unidirectional
RNN. So the object in memory is described instead; objects of unknown classes are refused by name.
"""

import io
import warnings
from typing import Any

import flair
import torch
from flair.data import Dictionary, Sentence
from flair.embeddings import (
    CharacterEmbeddings,
    FlairEmbeddings,
    OneHotEmbeddings,
    StackedEmbeddings,
    WordEmbeddings,
)
from flair.models import LanguageModel, SequenceTagger
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from backattn.common.batching import batches
from backattn.common.errors import ModelError
from backattn.models.flair_config import (
    CharacterModel,
    Characters,
    Description,
    Embedding,
    ItemDictionary,
    OneHot,
    WordEmbeddingsConfig,
)
from backattn.models.safetensors_model import TAGGER

# Most characters in one call of a character LSTM, padding included. Results do not depend on this number.
_MOST_CHARACTERS = 1 << 16
# The same of a language model, whose states are up to a hundred times as wide.
_MOST_STATES = 1 << 13


class BatchedCharacters(CharacterEmbeddings):
    """flair's ``CharacterEmbeddings`` computed once for each different word of a batch.

    flair runs the LSTM sentence by sentence and compares all pairs of words; where a sentence repeats a word,
    the earlier occurrences get the embedding of some other word (flair 0.15.1). Parameters and numbers are
    otherwise the same, so an instance can change its class in both directions.
    """

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> None:
        tokens = [token for sentence in sentences for token in sentence.tokens]
        forms = sorted({token.text for token in tokens}, key=lambda form: (-len(form), form))
        # Parts of the forms in this order, so that a long token does not pad all others to its length.
        parts = batches([len(form) for form in forms], _MOST_CHARACTERS)
        # shape: (forms, 2 * hidden)
        last = torch.cat([self._last_outputs([forms[i] for i in part]) for part in parts])
        row_of = {form: row for row, form in enumerate(forms)}
        rows = last[torch.tensor([row_of[token.text] for token in tokens])]
        for token, row in zip(tokens, rows, strict=True):
            token.set_embedding(self.name, row)

    def _last_outputs(self, forms: list[str]) -> Tensor:
        """The output at each word's last character, as flair takes it. *Shape:* (forms, 2 * hidden)

        :param forms: the longest first.
        """
        lengths = [len(form) for form in forms]
        index = self.char_dictionary.get_idx_for_item
        indices = torch.zeros(len(forms), lengths[0], dtype=torch.long)
        mask = torch.arange(lengths[0]) < torch.tensor(lengths)[:, None]
        indices[mask] = torch.tensor([index(character) for form in forms for character in form])
        # shape: (forms, characters, dimensions)
        embedded = self.char_embedding(indices.to(flair.device))
        output, _ = self.char_rnn(pack_padded_sequence(embedded.transpose(0, 1), lengths))
        padded, _ = pad_packed_sequence(output)
        return padded[torch.tensor(lengths) - 1, torch.arange(len(forms))]


class WordStates(FlairEmbeddings):
    """flair's ``FlairEmbeddings`` that keep the states of the words alone.

    flair pads all texts to the longest one, and keeps the state of every character of every text. Here the
    language model carries its state from part to part of the texts, and a text leaves when it ends.
    Parameters and numbers are the same, so an instance can change its class in both directions.
    """

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        if self.fine_tune and torch.is_grad_enabled():
            return super()._add_embeddings_internal(sentences)
        texts, places = zip(*map(self._text, sentences), strict=True)
        with torch.no_grad():
            states = self._states(texts, places)
        tokens = [token for sentence in sentences for token in sentence.tokens]
        for token, state in zip(tokens, states, strict=True):
            token.set_embedding(self.name, state)
        return sentences

    def _text(self, sentence: Sentence) -> tuple[str, list[int]]:
        """Return the text for the language model, and the place in it of each token's state, as in flair."""
        plain = sentence.to_tokenized_string() if self.tokenized_lm else sentence.to_plain_string()
        start = self.lm.document_delimiter if "document_delimiter" in self.lm.__dict__ else "\n"
        before, after, places = len(start), len(start) + len(plain), []
        for token in sentence.tokens:
            before += len(token.text)
            places.append((before if self.is_forward_lm else after) - (0 if self.with_whitespace else 1))
            blank = int(self.tokenized_lm or token.whitespace_after > 0)
            before += blank
            after -= len(token.text) + blank
        text = plain.lower() if self.is_lower else plain
        return start + (text if self.is_forward_lm else text[::-1]) + " ", places

    def _states(self, texts: tuple[str, ...], places: tuple[list[int], ...]) -> Tensor:
        """Compute the states at these places of each text, text after text. *Shape:* (tokens, hidden)"""
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        row_of = {text: row for row, text in enumerate(order)}
        rows = torch.tensor([row_of[text] for text, found in enumerate(places) for _ in found])
        columns = torch.tensor([place for found in places for place in found])
        model: Any = self.lm  # flair's functions have no types
        alive, begin, state = len(order), 0, model.init_hidden(len(order))
        result = torch.empty(0)
        while alive:
            size = max(1, min(self.chars_per_chunk, _MOST_STATES // alive))
            parts = [texts[i][begin : begin + size] for i in order[:alive]]
            blank = [model.dictionary.get_idx_for_item(" ")]
            numbers = [model.dictionary.get_idx_for_items(list(part)) for part in parts]
            longest = len(parts[0])
            padded = torch.tensor([row + blank * (longest - len(row)) for row in numbers])
            # shape: (characters, alive, hidden)
            output, state = model.forward(padded.T.to(flair.device), state, decode=False)
            if begin == 0:
                result = output.new_empty(len(rows), output.shape[2])
            here = ((columns >= begin) & (columns < begin + size)).nonzero()[:, 0]
            result[here] = output[columns[here] - begin, rows[here]]
            begin += size
            alive = sum(len(texts[i]) > begin for i in order[:alive])
            state = tuple(part[:, :alive].contiguous() for part in state)
        return result


def batch_characters(tagger: SequenceTagger) -> None:
    """Replace every ``CharacterEmbeddings`` and ``FlairEmbeddings`` in a tagger by the faster version."""
    for module in tagger.modules():
        if type(module) is CharacterEmbeddings:
            module.__class__ = BatchedCharacters
        elif type(module) is FlairEmbeddings:
            module.__class__ = WordStates


def unpickle(data: bytes) -> Any:
    """Open one of flair's own files, which runs whatever code is in it: only after someone vouched for it.

    This is the only unrestricted unpickling of the library (a test holds that), kept because flair publishes
    its models as pickles alone. :mod:`~backattn.models.vouchers` says who may vouch; ``backattn english
    convert`` makes a safetensors file of a pickle once.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older files name classes that have moved
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)


def dump_tagger(tagger: SequenceTagger, name: str) -> bytes:
    """The native file of a tagger with an RNN; equal taggers give equal bytes.

    :param name: of the tagger, for messages.
    :raises ModelError: it has a part that such a file cannot hold, or weights that are not finite.
    """
    try:
        return TAGGER.pack(describe(tagger), tagger.state_dict(), name)
    except (ValueError, TypeError, AttributeError) as error:  # files of old flair lack attributes
        raise ModelError(
            f"{name}: a safetensors file cannot hold this tagger: {error}; keep the flair file and pin its "
            "digest as english.sha256"
        ) from None


def load_tagger(data: bytes, name: str) -> SequenceTagger:
    """The inverse of :func:`dump_tagger`; the tagger is on ``flair.device``, in evaluation mode.

    :raises ModelError: names the file and what is wrong in it.
    """
    description, tensors = TAGGER.unpack(data, name)
    tagger = _build(description)
    tagger.load_state_dict(tensors)
    return tagger.eval()


def describe(tagger: Any) -> Description:
    """The configuration of a tagger.

    :raises ValueError: it has a part that cannot be described.
    """
    if not tagger.use_rnn:
        raise ValueError("it has no RNN")
    embeddings = tagger.embeddings
    stacked = type(embeddings) is StackedEmbeddings
    return Description(
        embeddings=tuple(map(_describe, embeddings.embeddings if stacked else [embeddings])),
        stacked=stacked,
        labels=_vocabulary(tagger.label_dictionary),
        tag_type=tagger.tag_type,
        tag_format=tagger.tag_format,
        rnn_type=tagger.rnn_type,
        hidden_size=tagger.hidden_size,
        rnn_layers=tagger.rnn_layers,
        bidirectional=tagger.bidirectional,
        use_crf=tagger.use_crf,
        reproject_embeddings=tagger.reproject_embeddings,
        train_initial_hidden_state=tagger.train_initial_hidden_state,
        dropout=float(tagger.use_dropout),
        word_dropout=float(tagger.use_word_dropout),
        locked_dropout=float(tagger.use_locked_dropout),
        loss_weights={label: float(weight) for label, weight in (tagger.weight_dict or {}).items()},
    )


def _build(description: Description) -> SequenceTagger:
    """Build a tagger with random weights from its configuration."""
    embeddings = [_build_embedding(part) for part in description.embeddings]
    stacked = description.stacked
    return SequenceTagger(
        embeddings=StackedEmbeddings(embeddings, overwrite_names=False) if stacked else embeddings[0],
        tag_dictionary=_dictionary(description.labels),
        tag_type=description.tag_type,
        tag_format=description.tag_format,
        rnn_type=description.rnn_type,
        hidden_size=description.hidden_size,
        rnn_layers=description.rnn_layers,
        bidirectional=description.bidirectional,
        use_crf=description.use_crf,
        reproject_embeddings=description.reproject_embeddings,
        train_initial_hidden_state=description.train_initial_hidden_state,
        dropout=description.dropout,
        word_dropout=description.word_dropout,
        locked_dropout=description.locked_dropout,
        loss_weights=dict(description.loss_weights) or None,
        init_from_state_dict=True,  # the labels include those of the CRF already
    )


def _describe(embedding: Any) -> Embedding:
    # The exact class: a subclass may compute something else with the same tensors.
    kind = type(embedding)
    if kind is WordEmbeddings:
        return _describe_words(embedding)
    if kind is OneHotEmbeddings:
        _require_text(embedding, "text")
        return OneHot(
            name=embedding.name,
            vocabulary=_vocabulary(embedding.vocab_dictionary),
            embedding_length=embedding.embedding_length,
            stable=embedding.layer_norm is not None,
        )
    if kind in {CharacterEmbeddings, BatchedCharacters}:
        return Characters(
            name=embedding.name,
            vocabulary=_vocabulary(embedding.char_dictionary),
            char_embedding_dim=embedding.char_embedding_dim,
            hidden_size_char=embedding.hidden_size_char,
        )
    if kind in {FlairEmbeddings, WordStates}:
        return describe_character_model(embedding)
    raise ValueError(f"{kind.__name__} is not one of the embeddings that are supported")


def _describe_words(words: WordEmbeddings) -> WordEmbeddingsConfig:
    _require_text(words, None)
    vocab = sorted(words.vocab, key=words.vocab.__getitem__)
    if [words.vocab[word] for word in vocab] != list(range(len(vocab))):
        raise ValueError("the indices of its WordEmbeddings have gaps")
    return WordEmbeddingsConfig(
        name=words.name,
        vocab=tuple(vocab),
        embedding_length=words.embedding_length,
        fine_tune=words.fine_tune,
        stable=words.stable,
    )


def describe_character_model(embedding: FlairEmbeddings) -> CharacterModel:
    """The configuration of flair embeddings.

    :raises ValueError: they have a dictionary that cannot be described.
    """
    model: LanguageModel = embedding.lm
    return CharacterModel(
        name=embedding.name,
        vocabulary=_vocabulary(model.dictionary),
        is_forward_lm=model.is_forward_lm,
        recurrent_type=model.recurrent_type.upper(),
        embedding_size=model.embedding_size,
        hidden_size=model.hidden_size,
        nlayers=model.nlayers,
        nout=model.nout or 0,
        document_delimiter=getattr(model, "document_delimiter", "\n"),  # as flair reads older models
        dropout=float(model.dropout),
        has_decoder=model.decoder is not None,
        fine_tune=embedding.fine_tune,
        chars_per_chunk=embedding.chars_per_chunk,
        with_whitespace=embedding.with_whitespace,
        tokenized_lm=embedding.tokenized_lm,
        is_lower=embedding.is_lower,
    )


def _build_embedding(part: Embedding) -> Any:
    match part:
        case WordEmbeddingsConfig():
            return WordEmbeddings(
                None,
                vocab={word: row for row, word in enumerate(part.vocab)},
                embedding_length=part.embedding_length,
                fine_tune=part.fine_tune,
                force_cpu=not part.fine_tune,  # frozen vectors stay on the CPU, as in flair
                stable=part.stable,
                name=part.name,
            )
        case OneHot():
            embedding = OneHotEmbeddings(
                _dictionary(part.vocabulary), embedding_length=part.embedding_length, stable=part.stable
            )
            embedding.name = part.name
            return embedding
        case Characters():
            return BatchedCharacters(
                _dictionary(part.vocabulary), part.char_embedding_dim, part.hidden_size_char, part.name
            )
        case CharacterModel():
            return build_character_embeddings(part)


def build_character_embeddings(part: CharacterModel) -> FlairEmbeddings:
    """Build flair embeddings whose language model has random weights."""
    model = LanguageModel(
        _dictionary(part.vocabulary),
        part.is_forward_lm,
        part.hidden_size,
        part.nlayers,
        embedding_size=part.embedding_size,
        nout=part.nout or None,
        document_delimiter=part.document_delimiter,
        dropout=part.dropout,
        recurrent_type=part.recurrent_type,
        has_decoder=part.has_decoder,
    )
    return FlairEmbeddings(
        model,
        fine_tune=part.fine_tune,
        chars_per_chunk=part.chars_per_chunk,
        with_whitespace=part.with_whitespace,
        tokenized_lm=part.tokenized_lm,
        is_lower=part.is_lower,
        name=part.name,
    )


def _vocabulary(dictionary: Dictionary) -> ItemDictionary:
    if dictionary.item2idx != {item: number for number, item in enumerate(dictionary.idx2item)}:
        raise ValueError("the indices of one of its dictionaries repeat or have gaps")
    return ItemDictionary(items=tuple(dictionary.get_items()), unknown=dictionary.add_unk)


def _dictionary(vocabulary: ItemDictionary) -> Dictionary:
    dictionary = Dictionary(add_unk=False)
    for item in vocabulary.items:
        dictionary.add_item(item)
    dictionary.add_unk = vocabulary.unknown
    return dictionary


def _require_text(embedding: Any, field: str | None) -> None:
    """Refuse embeddings of labels, which a translation does not have."""
    if embedding.field != field:
        raise ValueError(f"its {type(embedding).__name__} read {embedding.field!r}, not the text")
