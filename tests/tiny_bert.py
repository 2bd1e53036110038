"""Tiny transformers models with random weights and tokenizers, made on the spot."""

from pathlib import Path

import torch
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
