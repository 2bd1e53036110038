"""Translate with fairseq's fconv and transformer models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backattn.common.atomic_files import is_file
from backattn.common.device import takes_bfloat16
from backattn.common.digests import file_digest
from backattn.models.import_logging import keep_root_logging
from backattn.models.trained_files import require_as_trained
from backattn.recipe import FairseqRecipe
from backattn.translation.attention_merging import MergedWords, Segment, cut_segments
from backattn.translation.beam_search import Symbols
from backattn.translation.fairseq_checkpoint import dictionary_files, load_models, require_files
from backattn.translation.fairseq_decoder import decoder_factory, prepare_model
from backattn.translation.sentencepieces import SentencePieceModel
from backattn.translation.tokenisation import BpeCodes, TokenPieces
from backattn.translation.translate import PieceModel, SearchTranslator

with keep_root_logging():
    from fairseq.data import Dictionary

_OPENED = "plain data (weights_only, closed list of classes)"


class FairseqSubwordTokenizer:
    """Tokenizer with one fairseq dictionary a side (a ``SubwordTokenizer``).

    :param pieces: splits tokens into pieces, and merges target pieces into words.
    """

    def __init__(self, source: Dictionary, target: Dictionary, pieces: TokenPieces) -> None:
        self.source, self.target = source, target
        self._pieces = pieces

    def encode_source(self, tokens: tuple[str, ...], limit: int) -> list[Segment]:
        """Encode a source in segments; a token is cut only where it is over-long by itself."""
        if not tokens:
            raise ValueError("a sentence has at least one token")
        cuts = cut_segments([self._pieces.pieces(token) for token in tokens], limit)
        return [
            Segment(
                tokens,
                tuple(self.source.index(piece) for _, piece in cut),
                tuple(index for index, _ in cut),
            )
            for cut in cuts
        ]

    def decode(self, pieces: Sequence[int]) -> MergedWords:
        """The words of the output pieces."""
        return self._pieces.words([self.target[index] for index in pieces])

    def encode_target(self, english: tuple[str, ...]) -> tuple[MergedWords, tuple[int, ...]]:
        """Encode English words."""
        pieces = [(index, piece) for index, word in enumerate(english) for piece in self._pieces.pieces(word)]
        words = MergedWords(english, tuple(index for index, _ in pieces))
        return words, tuple(self.target.index(piece) for _, piece in pieces)


class FairseqTranslator(SearchTranslator):
    """A translator with one fairseq model or an ensemble (a ``Translator``).

    :param models: one model, or an ensemble whose probabilities and attention are averaged.
    :param source, target: their dictionaries.
    :param pieces: splits tokens into pieces, and merges target pieces into words.
    """

    def __init__(
        self,
        models: Sequence[Any],
        source: Dictionary,
        target: Dictionary,
        pieces: TokenPieces,
        recipe: FairseqRecipe,
        *,
        device: str,
    ) -> None:
        beam = min(recipe.beam, len(target) - 1)
        last = recipe.layers == "last"
        self.models = [prepare_model(model, beam, device, last=last) for model in models]
        bfloat16 = device == "cpu" and takes_bfloat16(recipe.precision, device)
        # Symbols without a meaning: fairseq pads a dictionary to a multiple of eight.
        meaningless = [target.bos_word, *(s for s in target.symbols if s.startswith("madeupword"))]
        # fairseq counts EOS among its positions, the recipe does not.
        longest = [min(model.max_positions()[side] for model in models) - 1 for side in (0, 1)]
        model = PieceModel(
            tokenizer=FairseqSubwordTokenizer(source, target, pieces),
            start=decoder_factory(self.models, beam, bfloat16=bfloat16, last=last),
            beam=beam,
            symbols=Symbols(target.eos(), (target.pad(), *map(target.index, meaningless))),
            end=source.eos(),
            padding=source.pad(),
            pads_left=True,  # as fairseq trains
            longest=(int(longest[0]), int(longest[1])),
        )
        super().__init__(model, recipe, opened=_OPENED, device=device)

    @classmethod
    def load(
        cls,
        folder: Path,
        recipe: FairseqRecipe,
        *,
        device: str,
        target: str = "en",
        compared: bool = False,
    ) -> "FairseqTranslator":
        """Load ``checkpoint.pt``, ``dict.<source>.txt``, ``dict.en.txt`` and ``joint.model`` of a folder.

        :param target: target language of the model, where that is not English (back-translation).
        :param device: ``cpu`` (float32) or ``cuda`` (float16).
        :param compared: the caller compares the files with what the training of this folder wrote, after they
            were opened; digests of gigabytes are not computed once more here.
        :raises MissingError: one of these files is not there.
        :raises ModelError: a file is damaged, holds code instead of data, does not fit the others, or
            differs from what the training of this folder wrote.
        """
        checkpoint, pieces_file = folder / "checkpoint.pt", folder / "joint.model"
        files = [checkpoint, *dictionary_files(folder, recipe, target)]
        require_files(*files)
        if not compared:
            existing = [path for path in (*files, pieces_file) if is_file(path)]
            require_as_trained(folder, {path.name: file_digest(path) for path in existing})
        pieces = SentencePieceModel.load(pieces_file)
        return cls(*load_models([checkpoint], recipe, target), pieces, recipe, device=device)

    @classmethod
    def load_archive(cls, folder: Path, recipe: FairseqRecipe, *, device: str) -> "FairseqTranslator":
        """Load the unpacked archive of one of fairseq's public models (``hub_folder``).

        Its ``model*.pt`` form an ensemble.

        :raises MissingError, ModelError: as for :meth:`load`.
        """
        checkpoints = sorted(folder.glob("model*.pt"))
        require_files(*dictionary_files(folder, recipe), *(checkpoints or [folder / "model.pt"]))
        pieces = BpeCodes.load(folder / "bpecodes", recipe.source)
        return cls(*load_models(checkpoints, recipe), pieces, recipe, device=device)
