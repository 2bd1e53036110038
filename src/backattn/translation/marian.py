"""Translate with the Marian models of transformers (opus-mt)."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, MarianConfig, MarianMTModel

from backattn.common.atomic_files import is_file
from backattn.common.device import takes_bfloat16
from backattn.common.errors import ModelError
from backattn.common.json_files import read_table
from backattn.common.safe_text import quoted
from backattn.models.hub import fetch_snapshot
from backattn.models.transformers_folder import (
    ADVICE,
    CONFIG,
    PICKLE,
    SAFETENSORS,
    SOURCE_PIECES,
    TARGET_PIECES,
    TARGET_VOCABULARY,
    VOCABULARY,
    marian_files,
    marian_settings,
)
from backattn.models.transformers_loader import build_model, read_weights
from backattn.recipe import TransformersRecipe
from backattn.translation.attention_merging import UNKNOWN
from backattn.translation.beam_search import Symbols
from backattn.translation.detokenised import RawTextTokenizer, SideVocabulary
from backattn.translation.sentencepieces import SentencePieceModel
from backattn.translation.translate import PieceModel, SearchTranslator

_FEWEST_POSITIONS = 2
_INSTEAD = "copy its folder and name that as translator.checkpoint"


class MarianTranslator(SearchTranslator):
    """A translator with a Marian model, which reads and writes raw text (a ``Translator``).

    :param source, target: vocabularies of the two sides.
    """

    def __init__(
        self,
        model: Any,
        source: SideVocabulary,
        target: SideVocabulary,
        recipe: TransformersRecipe,
        *,
        opened: str,
        device: str,
    ) -> None:
        config = model.config
        model = model.eval().to(device)
        if device.startswith("cuda"):
            model = model.half()
        elif takes_bfloat16(recipe.precision, device):
            model = model.bfloat16()
        beam = min(recipe.beam, len(target.ids) - 1)
        # One position is taken by EOS, or by the piece that a translation begins with.
        longest = config.max_position_embeddings - 1
        pieces = PieceModel(
            tokenizer=RawTextTokenizer(source, target, recipe.source),
            start=partial(_MarianDecoder, model, recipe.layers == "last"),
            beam=beam,
            symbols=Symbols(config.eos_token_id, (config.pad_token_id,)),
            end=config.eos_token_id,
            padding=config.pad_token_id,
            pads_left=False,  # position embeddings are counted from the left
            longest=(longest, longest),
        )
        super().__init__(pieces, recipe, opened=opened, device=device)

    @classmethod
    def load(cls, folder: Path, recipe: TransformersRecipe, *, device: str) -> "MarianTranslator":
        """Open a folder as ``save_pretrained`` of a model and of its tokenizer leave it.

        :param device: ``cpu`` (float32) or ``cuda`` (float16).
        :raises MissingError: one of its files is not there.
        :raises ModelError: it is damaged, or not a Marian model.
        """
        settings, files = marian_settings(folder), marian_files(folder)
        safe = SAFETENSORS in files
        weights = read_weights(folder, [SAFETENSORS if safe else PICKLE])
        # "eager" is the only implementation that returns attention weights.
        model = build_model(
            folder, MarianMTModel, MarianConfig, settings, weights,
            attn_implementation="eager", dtype=torch.float32,
        )  # fmt: skip
        config = model.config
        _check_config(folder, config, model.lm_head.out_features)
        own = folder / TARGET_VOCABULARY
        shared = config.share_encoder_decoder_embeddings or TARGET_VOCABULARY not in files
        source = _side(folder / VOCABULARY, folder / SOURCE_PIECES, config.vocab_size)
        target = _side(
            folder / VOCABULARY if shared else own, folder / TARGET_PIECES, model.lm_head.out_features
        )
        opened = "safetensors" if safe else "plain data (weights_only)"
        return cls(model, source, target, recipe, opened=opened, device=device)


def fetch_marian(recipe: TransformersRecipe) -> Path:
    """Download the model that ``recipe.hub`` names, or complete it in the hub's cache; return its folder.

    :raises MissingError: it cannot be fetched, or is not whole.
    """
    fetch = partial(fetch_snapshot, recipe.hub, revision=recipe.revision, instead=_INSTEAD)
    folder = fetch(["*.json", "*.spm", SAFETENSORS])
    if not is_file(folder / SAFETENSORS):
        folder = fetch(["*.json", "*.spm", PICKLE])
    marian_files(folder)
    return folder


def _check_config(folder: Path, config: Any, size: int) -> None:
    """Check the ids of special pieces, and that a sentence of one piece fits.

    :raises ModelError: an id is wrong, or no sentence fits.
    """
    for key in ("eos_token_id", "pad_token_id", "decoder_start_token_id"):
        number = getattr(config, key)
        if type(number) is not int or not 0 <= number < size:
            raise ModelError(
                f"{folder / CONFIG}: {key}: expected a number below {size}, found {quoted(number)}; {ADVICE}"
            )
    if config.max_position_embeddings < _FEWEST_POSITIONS:
        raise ModelError(f"{folder / CONFIG}: max_position_embeddings: no sentence fits; {ADVICE}")


def _side(vocabulary: Path, pieces: Path, size: int) -> SideVocabulary:
    """Read the vocabulary of one side.

    :raises ModelError: it is damaged, or of a model of another size.
    """
    ids = read_table(vocabulary, ADVICE)
    if not all(type(piece_id) is int and 0 <= piece_id < size for piece_id in ids.values()):
        raise ModelError(f"{vocabulary}: expected a number below {size} for each piece; {ADVICE}")
    if UNKNOWN not in ids:
        raise ModelError(f"{vocabulary}: has no {UNKNOWN}; {ADVICE}")
    return SideVocabulary(SentencePieceModel.load(pieces, ADVICE), ids, ids[UNKNOWN])


class _MarianDecoder:
    """Adapts transformers' Marian decoder to :class:`~backattn.translation.beam_search.Decoder`.

    :param last: return the attention of the last layer, not the mean over the layers (eq. 3).
    :param tokens: padded sources. *Shape:* (sentences, source)
    """

    def __init__(self, model: Any, last: bool, tokens: Tensor) -> None:
        self._model, self._last = model, last
        self._mask = tokens.ne(model.config.pad_token_id).long()
        self._encoded = model.get_encoder()(input_ids=tokens, attention_mask=self._mask).last_hidden_state
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self._steps = 0

    def step(self, pieces: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the next piece, and the attention, averaged over the heads."""
        # Any: transformers' annotation is LongTensor, which torch's functions are not annotated to return.
        rows: Any = order.flatten()
        inputs = pieces.reshape(-1, 1)
        if self._steps == 0:
            inputs = torch.full_like(inputs, self._model.config.decoder_start_token_id)
        else:
            self._cache.self_attention_cache.reorder_cache(rows)
            # Hypotheses of a sentence share its source: reordering within sentences changes nothing.
            if self._steps == 1 or len(rows) != len(self._mask):
                self._cache.cross_attention_cache.reorder_cache(rows)
                self._mask = self._mask[rows]
        self._steps += 1
        found = self._model.get_decoder()(
            input_ids=inputs,
            encoder_hidden_states=self._encoded,  # used in the first step only, then from the cache
            encoder_attention_mask=self._mask,
            past_key_values=self._cache,
            use_cache=True,
            output_attentions=True,
        )
        scores = self._model.lm_head(found.last_hidden_state[:, -1]) + self._model.final_logits_bias
        layers = found.cross_attentions[-1:] if self._last else found.cross_attentions
        # shape: (layers, hypotheses, heads, source)
        attention = torch.stack([layer[:, :, -1] for layer in layers])
        return scores.float().log_softmax(-1), attention.float().mean((0, 2))
