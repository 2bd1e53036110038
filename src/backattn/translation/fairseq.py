"""fairseq's models as translators. The inference half of the fairseq door."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backattn.common.atomic_files import is_file
from backattn.common.device import takes_bfloat16
from backattn.common.digests import file_digest
from backattn.models.import_logging import keep_root_logging
from backattn.models.trained_files import require_as_trained
from backattn.recipe import FairseqRecipe
from backattn.translation.attention_merging import MergedWords, cut_segments
from backattn.translation.beam_search import Symbols
from backattn.translation.fairseq_checkpoint import dictionaries, hub_folder, load_models, need
from backattn.translation.fairseq_decoder import prepare, starter
from backattn.translation.segments import Segment
from backattn.translation.tokenisation import BpeCodes, SentencePieceModel, TokenPieces
from backattn.translation.translate import PieceModel, SearchTranslator

with keep_root_logging():
    from fairseq.data import Dictionary

_OPENED = "plain data (weights_only, closed list of classes)"


class FairseqSubwordTokenizer:
    """Pieces by the dictionaries of fairseq (a ``SubwordTokenizer``).

    :param source, target: of the two sides.
    :param pieces: cuts tokens, puts target pieces together.
    """

    def __init__(self, source: Dictionary, target: Dictionary, pieces: TokenPieces) -> None:
        self.source, self.target = source, target
        self._pieces = pieces

    def segments(self, tokens: tuple[str, ...], limit: int) -> list[Segment]:
        """A source in segments; a token is cut only where it alone is over-long."""
        if not tokens:
            raise ValueError("a sentence has at least one token")
        cuts = cut_segments([self._pieces.pieces(token) for token in tokens], limit)
        return [
            Segment(
                tokens,
                tuple(self.source.index(piece) for _, piece in cut),
                tuple(owner for owner, _ in cut),
            )
            for cut in cuts
        ]

    def written(self, pieces: Sequence[int]) -> MergedWords:
        """The words of target pieces."""
        return self._pieces.words([self.target[index] for index in pieces])

    def given(self, english: tuple[str, ...]) -> tuple[MergedWords, tuple[int, ...]]:
        """Words and their target pieces."""
        pieces = [(owner, piece) for owner, word in enumerate(english) for piece in self._pieces.pieces(word)]
        words = MergedWords(english, tuple(owner for owner, _ in pieces))
        return words, tuple(self.target.index(piece) for _, piece in pieces)


class FairseqTranslator(SearchTranslator):
    """fairseq's fconv and transformer models.

    :param models: one model, or an ensemble whose probabilities and attention are averaged.
    :param source, target: their dictionaries.
    :param pieces: cuts source tokens, puts target pieces together.
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
        self.models = [prepare(model, beam, device, last=last) for model in models]
        reduced = device == "cpu" and takes_bfloat16(recipe.precision, device)
        # Symbols that stand for nothing: fairseq fills a dictionary up to a multiple of eight.
        meaningless = [target.bos_word, *(s for s in target.symbols if s.startswith("madeupword"))]
        # fairseq counts EOS among its positions, the recipe does not.
        longest = [min(model.max_positions()[side] for model in models) - 1 for side in (0, 1)]
        model = PieceModel(
            spelling=FairseqSubwordTokenizer(source, target, pieces),
            start=starter(self.models, beam, reduced=reduced, last=last),
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
        cls, folder: Path, recipe: FairseqRecipe, *, device: str, target: str = "en"
    ) -> "FairseqTranslator":
        """Load ``checkpoint.pt``, ``dict.<source>.txt``, ``dict.en.txt`` and ``joint.model`` of a folder.

        :param target: language that it writes, where that is not English: what it writes is "English" here.
        :param device: ``cpu`` (float32) or ``cuda`` (float16).
        :raises MissingError: one of these files is not there.
        :raises ModelError: a file is damaged, holds code instead of data, does not fit the others, or is not
            what the training of this folder left.
        """
        checkpoint, pieces_file = folder / "checkpoint.pt", folder / "joint.model"
        files = [checkpoint, *dictionaries(folder, recipe, target)]
        need(*files)
        there = [path for path in (*files, pieces_file) if is_file(path)]
        require_as_trained(folder, {path.name: file_digest(path) for path in there})
        pieces = SentencePieceModel.load(pieces_file)
        return cls(*load_models([checkpoint], recipe, target), pieces, recipe, device=device)

    @classmethod
    def from_hub(cls, recipe: FairseqRecipe, *, device: str) -> "FairseqTranslator":
        """Load one of fairseq's public models into English, as ``recipe.hub`` names it.

        The archive is fetched into fairseq's own cache (``PYTORCH_FAIRSEQ_CACHE``). Its ``model*.pt``
        form an ensemble.

        :raises RecipeError: fairseq has no such model into English.
        :raises MissingError: the archive is not in the cache and cannot be fetched.
        :raises ModelError: as for :meth:`load`.
        """
        folder = hub_folder(recipe.hub)
        checkpoints = sorted(folder.glob("model*.pt"))
        need(*dictionaries(folder, recipe), *(checkpoints or [folder / "model.pt"]))
        pieces = BpeCodes.load(folder / "bpecodes", recipe.source)
        return cls(*load_models(checkpoints, recipe), pieces, recipe, device=device)
