"""Tiny Marian models of transformers with random weights, in folders as ``save_pretrained`` leaves them."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import MarianConfig, MarianMTModel

from backattn.training.translator.vocabulary import train_vocabulary
from backattn.translation.sentencepieces import SentencePieceModel
from tiny_translator import TEXT

CHINESE = (
    "我们明天去北京。",
    "我们住在北京,他在不来梅工作。",
    "他明天去不来梅,我们去北京!",
    "北京,不来梅,科隆。",
)
SPECIAL = ["</s>", "<unk>"]


def make_marian(
    folder: Path, *, lines: Iterable[str] = TEXT, pieces: int = 150, shared: bool = True, safe: bool = True
) -> Path:
    """config.json, weights, vocab.json and two sentencepiece models.

    :param shared: both sides have one vocabulary; else ``target_vocab.json`` is the English side's.
    :param safe: weights as safetensors, not as a pickle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for side, text in (("source", tuple(lines)), ("target", TEXT)):
        train_vocabulary(text, folder / f"{side}.spm", pieces)
        vocabulary = SentencePieceModel.load(folder / f"{side}.spm")
        known = {piece for line in text for piece in vocabulary.pieces(line)}
        known |= {piece for line in text for word in line.split() for piece in vocabulary.pieces(word)}
        names.append(sorted(known))
    if shared:
        names = [sorted({*names[0], *names[1]})] * 2
    numbers = [{piece: i for i, piece in enumerate([*SPECIAL, *own, "<pad>"])} for own in names]
    # The two sides must know the special pieces by the same numbers.
    sizes = list(map(len, numbers))
    pad = max(sizes) - 1
    for own in numbers:
        own["<pad>"] = pad
    write_json(folder / "vocab.json", numbers[0])
    if not shared:
        write_json(folder / "target_vocab.json", numbers[1])
    torch.manual_seed(1)
    config = MarianConfig(
        vocab_size=pad + 1, decoder_vocab_size=pad + 1, share_encoder_decoder_embeddings=shared,
        d_model=12, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2, decoder_attention_heads=3,
        encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=60, activation_function="swish",
        static_position_embeddings=True, scale_embedding=True, init_std=0.7,
        eos_token_id=0, forced_eos_token_id=0, pad_token_id=pad, decoder_start_token_id=pad,
    )  # fmt: skip
    model = MarianMTModel(config)
    model.final_logits_bias.normal_()  # type: ignore[operator]
    if safe:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
