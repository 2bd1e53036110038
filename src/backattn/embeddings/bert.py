"""Embed words with a frozen BERT-like model of transformers.

A model is a folder of safetensors and JSON; no pickle is opened, and no code that comes with a model runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    CamembertConfig,
    CamembertModel,
    CamembertTokenizerFast,
    DebertaV2Config,
    DebertaV2Model,
    DebertaV2TokenizerFast,
    DistilBertConfig,
    DistilBertModel,
    DistilBertTokenizerFast,
    ElectraConfig,
    ElectraModel,
    ElectraTokenizerFast,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaTokenizerFast,
)

from backattn.common.atomic_files import is_file
from backattn.common.batching import batches
from backattn.common.errors import MissingError, ModelError
from backattn.common.safe_text import quoted
from backattn.models.hub import fetch_snapshot
from backattn.models.transformers_folder import (
    CONFIG,
    TOKENIZER,
    EncoderFolder,
    read_encoder,
    refuse_growth,
)
from backattn.models.transformers_loader import (
    build_model,
    loader_errors_as_model_error,
    read_weights,
    restricted_folder,
    suppress_stderr,
)
from backattn.recipe import BertRecipe

_FETCHED = ["*.json", "*.txt", "*.model", "*.safetensors"]
_INSTEAD = "copy its folder and name that as embeddings.bert.checkpoint"
_LAYERS = 4
# The classes that a folder's settings can choose from; others of transformers are refused.
_MODELS = {
    "bert": (BertModel, BertConfig),
    "camembert": (CamembertModel, CamembertConfig),
    "deberta-v2": (DebertaV2Model, DebertaV2Config),
    "distilbert": (DistilBertModel, DistilBertConfig),
    "electra": (ElectraModel, ElectraConfig),
    "roberta": (RobertaModel, RobertaConfig),
    "xlm-roberta": (XLMRobertaModel, XLMRobertaConfig),
}
_TOKENIZERS = {
    kind.__name__: kind
    for kind in (
        BertTokenizerFast, CamembertTokenizerFast, DebertaV2TokenizerFast, DistilBertTokenizerFast,
        ElectraTokenizerFast, PreTrainedTokenizerFast, RobertaTokenizerFast, XLMRobertaTokenizerFast,
    )
}  # fmt: skip
# A model_max_length above this means that none was set (transformers writes 10**30).
_NO_LIMIT = 1 << 24

# Most pieces whose states are held before they are pooled to tokens; a shard of words has fewer.
_MOST_PIECES = 1 << 15

Pieces = list[int]


def fetch_bert(recipe: BertRecipe) -> Path:
    """Download the model that ``recipe.hub`` names, or complete it in the hub's cache; return its folder.

    :raises MissingError: it cannot be fetched.
    """
    return fetch_snapshot(recipe.hub, _FETCHED, recipe.revision, instead=_INSTEAD)


class Bert:
    """Hidden states of a model's last layers, pooled from pieces to tokens (an ``Embedder``).

    A sentence longer than the window is read in several windows, which overlap by half; each piece's state is
    taken from the window in which it is farthest from the nearer border.

    :param name: of the model's folder, for messages.
    :raises ModelError: model, tokenizer and recipe do not fit each other.
    """

    opened = "safetensors"

    def __init__(self, model: Any, tokenizer: Any, recipe: BertRecipe, *, name: str, device: str) -> None:
        self._model = model.float().eval().to(device)
        self._tokenizer = tokenizer
        self._recipe = recipe
        self._device = device
        self._name = name
        self._check_model()
        self.width = int(model.config.hidden_size)
        self._word_prefix = self._find_word_prefix()
        self._before, self._after = self._special_pieces()
        self._window = self._window_content()

    @classmethod
    def load(cls, folder: Path, recipe: BertRecipe, *, device: str) -> "Bert":
        """Open a folder as ``save_pretrained`` of a model and of its tokenizer leave it.

        :raises MissingError: there is none.
        :raises ModelError: it is damaged, or of an unsupported type.
        """
        if not is_file(folder / CONFIG):
            raise MissingError(
                f"{folder}: no transformers model there (config.json); point "
                "embeddings.bert.checkpoint at one"
            )
        found = read_encoder(folder)
        tokenizer = _open_tokenizer(folder, found)
        # The output of a pooler is not used.
        weights = read_weights(folder, found.weights)
        model = build_model(folder, *_MODELS[found.kind], found.settings, weights, unused="pooler.")
        return cls(model, tokenizer, recipe, name=str(folder), device=device)

    def embed(self, sentences: Sequence[tuple[str, ...]]) -> list[NDArray[np.float32]]:
        """Embed sentences, in the given order. *Shape:* (m, width) each"""
        pieces = self._split(sorted({token for tokens in sentences for token in tokens}))
        found: list[NDArray[np.float32]] = []
        part: list[tuple[str, ...]] = []
        size = 0
        for tokens in sentences:
            own = sum(len(pieces[token]) for token in tokens)
            if part and size + own > _MOST_PIECES:
                found += self._embed(part, pieces)
                part, size = [], 0
            part.append(tokens)
            size += own
        return found + self._embed(part, pieces)

    def _embed(
        self, sentences: Sequence[tuple[str, ...]], pieces: Mapping[str, Pieces]
    ) -> list[NDArray[np.float32]]:
        """Pool the states of all pieces of sentences to their tokens. *Shape:* (m, width) each"""
        texts = [[piece for token in tokens for piece in pieces[token]] for tokens in sentences]
        windows = [
            (number, start)
            for number, text in enumerate(texts)
            for start in window_starts(len(text), self._window)
        ]
        parts = [texts[number][start : start + self._window] for number, start in windows]
        states: list[dict[int, NDArray[np.float32]]] = [{} for _ in texts]
        with torch.inference_mode():
            special = len(self._before) + len(self._after)
            for batch in batches([len(part) + special for part in parts], self._recipe.batch_tokens):
                for place, found in zip(batch, self._read([parts[i] for i in batch]), strict=True):
                    number, start = windows[place]
                    states[number][start] = found
        return [
            self._to_tokens(join_windows(own), [len(pieces[token]) for token in tokens])
            for own, tokens in zip(states, sentences, strict=True)
        ]

    def _split(self, forms: list[str]) -> Mapping[str, Pieces]:
        """Split each word into pieces; a word that the tokenizer deletes becomes the unknown piece."""
        if not forms:
            return {}
        words = [[self._word_prefix + form] for form in forms]
        found = self._tokenize(words, is_split_into_words=True, add_special_tokens=False)["input_ids"]
        unknown = self._tokenizer.unk_token_id
        for form, own in zip(forms, found, strict=True):
            if not own and unknown is None:
                raise ModelError(
                    f"{self._name}: its tokenizer has no piece for {quoted(form)}, and no unknown piece"
                )
        return {form: own or [unknown] for form, own in zip(forms, found, strict=True)}

    def _tokenize(self, text: Any, **how: Any) -> Any:
        """Call the tokenizer.

        :raises ModelError: it fails; a damaged file may show only here.
        """
        with loader_errors_as_model_error(self._name), suppress_stderr():
            return self._tokenizer(text, **how)

    def _read(self, parts: list[Pieces]) -> Iterator[NDArray[np.float32]]:
        """Compute the states of each part's pieces, without special ones. *Shape:* (pieces, width) each"""
        rows = [torch.tensor([*self._before, *part, *self._after]) for part in parts]
        padding = self._tokenizer.pad_token_id or 0
        # shape: (batch, longest)
        numbers = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
        known = self._model.get_input_embeddings().num_embeddings
        if not 0 <= int(numbers.min()) <= int(numbers.max()) < known:
            raise ModelError(
                f"{self._name}: its tokenizer has a number that its model of {known} pieces lacks"
            )
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(numbers.shape[1]) < lengths[:, None]
        several = self._recipe.layers == "mean-4"
        result = self._model(
            input_ids=numbers.to(self._device),
            attention_mask=mask.long().to(self._device),
            output_hidden_states=several,
        )
        # shape: (batch, longest, width)
        states = torch.stack(result.hidden_states[-_LAYERS:]).mean(0) if several else result.last_hidden_state
        first = len(self._before)
        for row, part in zip(states.cpu().numpy(), parts, strict=True):
            yield row[first : first + len(part)].copy()

    def _to_tokens(self, states: NDArray[np.float32], counts: list[int]) -> NDArray[np.float32]:
        """Take the state of each token's first piece, or the mean over its pieces.

        :param states: *Shape:* (pieces, width)
        :param counts: pieces of each of the m tokens.
        :returns: *Shape:* (m, width)
        """
        number = np.array(counts)
        first = number.cumsum() - number
        if self._recipe.pieces == "first":
            vectors = states[first]
        else:
            vectors = np.add.reduceat(states, first, axis=0) / number[:, None].astype(np.float32)
        return cast(NDArray[np.float32], vectors)

    def _check_model(self) -> None:
        """Check the kind of the model, its layers and its tokenizer.

        :raises ModelError: the model is not an encoder, or its tokenizer or the recipe does not fit it.
        """
        config = self._model.config
        if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
            raise ModelError(f"{self._name}: a {config.model_type} model, expected an encoder as BERT is one")
        layers = config.num_hidden_layers
        if self._recipe.layers == "mean-4" and layers < _LAYERS:
            raise ModelError(f'{self._name}: has {layers} layers; set embeddings.bert.layers = "last"')
        if not self._tokenizer.is_fast:
            raise ModelError(f"{self._name}: no fast tokenizer; save it with one, as tokenizer.json")
        known = self._model.get_input_embeddings().num_embeddings
        if len(self._tokenizer) > known:
            raise ModelError(
                f"{self._name}: its tokenizer has {len(self._tokenizer)} pieces, its model knows {known}; "
                "they are of two models: copy both again"
            )

    def _find_word_prefix(self) -> str:
        """Find what must precede a word so that it is split as in running text: a space, or nothing.

        Some tokenizers (a ByteLevel after another step, a normaliser that writes spaces) ignore
        ``add_prefix_space``.
        """
        text = self._tokenize("a a", add_special_tokens=False)["input_ids"]
        word = self._tokenize([["a"]], is_split_into_words=True, add_special_tokens=False)["input_ids"][0]
        return "" if text[-len(word) :] == word else " "

    def _special_pieces(self) -> tuple[Pieces, Pieces]:
        """Find the pieces that are added before and after every text ([CLS] and [SEP] for BERT)."""
        probe = self._tokenize("a")
        own = [place for place, part in enumerate(probe.sequence_ids(0)) if part is not None]
        if not own:
            raise ModelError(f"{self._name}: its tokenizer makes no piece of the letter a")
        numbers: Pieces = probe["input_ids"]
        return numbers[: own[0]], numbers[own[-1] + 1 :]

    def _window_content(self) -> int:
        """Return the number of pieces of text in a window, without the special ones."""
        most, wanted = self._most_pieces(), self._recipe.window
        special = len(self._before) + len(self._after)
        if wanted > most:
            raise ModelError(
                f"{self._name}: reads at most {most} pieces at once; embeddings.bert.window is {wanted}: "
                "set it to 0"
            )
        window = wanted or most
        if window == _NO_LIMIT:
            raise ModelError(
                f"{self._name}: does not say how many pieces it reads; set embeddings.bert.window"
            )
        if window < special + 2:
            raise ModelError(
                f"{self._name}: a window of {window} pieces, of which {special} are special, holds no "
                f"sentence; set embeddings.bert.window to {special + 2} or more"
            )
        return window - special

    def _most_pieces(self) -> int:
        """Return the longest input of the model; RoBERTa-like ones skip positions up to the padding id."""
        table = getattr(getattr(self._model, "embeddings", None), "position_embeddings", None)
        padding = getattr(table, "padding_idx", None)
        unused = 0 if padding is None else padding + 1
        positions = getattr(self._model.config, "max_position_embeddings", None) or 0
        limits = [self._tokenizer.model_max_length, positions - unused, _NO_LIMIT]
        return min(int(limit) for limit in limits if limit > 0)


def _open_tokenizer(folder: Path, found: EncoderFolder) -> Any:
    """Open a folder's tokenizer.

    :raises ModelError: it is damaged.
    """
    if TOKENIZER in found.vocabulary_files:
        refuse_growth(folder / TOKENIZER)
    kind: Any = _TOKENIZERS[found.tokenizer]  # Any: transformers does not declare its types
    with (
        loader_errors_as_model_error(folder),
        suppress_stderr(),
        restricted_folder(folder, found.vocabulary_files, found.tokenizer_settings) as clean,
    ):
        # Each token is a word of its own, which byte-level tokenizers recognise by the space before it.
        return kind.from_pretrained(clean, add_prefix_space=True, local_files_only=True)


def window_starts(length: int, window: int) -> list[int]:
    """Return the starts of windows over ``length`` pieces: every half window; the last ends with the text."""
    if length <= window:
        return [0]
    return [*range(0, length - window, window // 2), length - window]


def join_windows(windows: Mapping[int, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Join windows: take each piece from the window in which it is farthest from the nearer border.

    Of two such windows, the earlier one counts.

    :param windows: start -> states of equally many pieces; together they leave no gap.
        *Shape:* (window, width) each
    :returns: *Shape:* (pieces, width)
    """
    size, width = next(iter(windows.values())).shape
    context = np.minimum(np.arange(size), np.arange(size)[::-1])
    joined = np.empty((max(windows) + size, width), np.float32)
    best = np.full(len(joined), -1)
    for start in sorted(windows):
        here = slice(start, start + size)
        better = context > best[here]
        best[here][better] = context[better]
        joined[here][better] = windows[start][better]
    return joined
