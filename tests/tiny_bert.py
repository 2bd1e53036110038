"""Tiny transformers models with random weights and tokenizers, made on the spot."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizerFast,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcde", *(f"##{c}" for c in "abcde"), "the", "##ing"]


def save_bert(folder: Path, *, layers: int = 5, positions: int = 40, width: int = 12) -> Path:
    """A BERT with a WordPiece vocabulary of the letters a to e."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=positions, initializer_range=0.3,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def save_roberta(folder: Path, *, positions: int = 40, style: str = "") -> Path:
    """A RoBERTa with a byte-level vocabulary: a word that follows a space begins with another piece.

    :param style: ``sequence``, where another step stands before the bytes; ``replaced``, where a normaliser
        writes the mark of a space.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters, "Ġa", "Ġb", "ab"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [("Ġ", "a"), ("Ġ", "b"), ("a", "b")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if style == "sequence":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(" ?[a-z]+"), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    elif style == "replaced":
        tokenizer.normalizer = normalizers.Replace(" ", "Ġ")
        tokenizer.pre_tokenizer = pre_tokenizers.Split("Ġ", "merged_with_next")
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    kind = PreTrainedTokenizerFast if style else RobertaTokenizerFast
    kind(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(1)
    config = RobertaConfig(
        vocab_size=len(pieces), hidden_size=12, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=positions, pad_token_id=1, initializer_range=0.3,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    return folder


# Model type -> the name that its classes begin with.
NAMES = {
    "bert": "Bert", "camembert": "Camembert", "deberta-v2": "DebertaV2", "distilbert": "DistilBert",
    "electra": "Electra", "roberta": "Roberta", "xlm-roberta": "XLMRoberta",
}  # fmt: skip
_SIZES = {
    "hidden_size": 12, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 40, "initializer_range": 0.3,
}  # fmt: skip
_OWN_SIZES: dict[str, dict[str, Any]] = {
    "deberta-v2": {
        "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm",
        "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
        "type_vocab_size": 0, "conv_kernel_size": 3,
    },
    "distilbert": {"dim": 12, "n_layers": 4, "n_heads": 2, "hidden_dim": 16},
    "electra": {"embedding_size": 8},
}  # fmt: skip


def save_encoder(kind: str, folder: Path) -> Path:
    """A model of a type that may be opened, with a tokenizer of its own kind."""
    if kind == "roberta":
        return save_roberta(folder)
    folder.mkdir(parents=True)
    opener = getattr(transformers, f"{NAMES[kind]}TokenizerFast")
    if kind in ("bert", "distilbert", "electra"):
        (folder / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
        tokenizer = opener(str(folder / "vocab.txt"), do_lower_case=False)
    else:
        tokenizer = opener(tokenizer_object=_pieces_with_scores(deberta=kind == "deberta-v2"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {**_SIZES, **_OWN_SIZES.get(kind, {})}
    if kind == "distilbert":
        sizes = {**_OWN_SIZES[kind], "max_position_embeddings": 40, "initializer_range": 0.3}
    if kind in ("camembert", "xlm-roberta"):
        sizes["pad_token_id"] = tokenizer.pad_token_id
    config = getattr(transformers, f"{NAMES[kind]}Config")(vocab_size=len(tokenizer) + 1, **sizes)
    getattr(transformers, f"{NAMES[kind]}Model")(config).save_pretrained(folder)
    return folder


def _pieces_with_scores(*, deberta: bool) -> Tokenizer:
    """A unigram vocabulary of the letters a to e, as sentencepiece models become."""
    first, last = ("[CLS]", "[SEP]") if deberta else ("<s>", "</s>")
    special = (
        ["[PAD]", first, last, "[UNK]", "[MASK]"] if deberta else [first, "<pad>", last, "<unk>", "<mask>"]
    )
    scores = [(piece, 0.0) for piece in special]
    scores += [
        (piece, -3.0 - number)
        for number, piece in enumerate(["\u2581", *"abcde", "\u2581a", "\u2581the", "ing"])
    ]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(first, special.index(first)), (last, special.index(last))],
    )
    return tokenizer
