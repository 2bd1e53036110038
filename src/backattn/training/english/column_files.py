"""Read the English column files of a recipe and split them. Does not import flair."""

from collections.abc import Mapping, Sequence

from backattn.common.errors import MissingError
from backattn.corpus import Sentence, evenly_spread
from backattn.corpus.formats import read_column_file
from backattn.recipe import PACKAGED, EnglishFile, data_path

# With use = "split", every tenth sentence is for test and the one before it for dev.
_FOLD = 10


def read_english_file(file: EnglishFile) -> Mapping[str, Sequence[Sentence]]:
    """Read the sentences of one file by split: ``train``, ``dev``, ``test``.

    :raises MissingError: it is not there.
    :raises CorpusError: it is malformed.
    """
    path = data_path(file.path)
    if not path.is_file():
        raise MissingError(
            f"{path}: no such file; put the English corpus there ({PACKAGED / 'DATA.md'} says where ours come"
            " from), point BACKATTN_DATA at your corpora, or take the file out of the recipe"
        )
    sentences = evenly_spread(read_column_file(path, file.format), file.limit)
    if file.use != "split":
        return {"train": [], "dev": [], "test": [], file.use: sentences}
    return {
        "train": [s for i, s in enumerate(sentences) if i % _FOLD < _FOLD - 2],
        "dev": sentences[_FOLD - 2 :: _FOLD],
        "test": sentences[_FOLD - 1 :: _FOLD],
    }
