"""Provide features of any sentences: read from a store where it holds them, computed otherwise."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from numpy.typing import NDArray

from backattn.common.device import pick_device
from backattn.common.errors import RecipeError, StaleError, StoreError
from backattn.common.safe_text import quoted
from backattn.corpus import Corpus, Sentence
from backattn.corpus.given import check_switches, given_tokens, named_digests
from backattn.corpus.tags import OUTSIDE
from backattn.embeddings import Embedder
from backattn.features.attention import transfer_attention
from backattn.features.entries import embedding_entries, transfer_entries, transfer_width, translation_entries
from backattn.features.fetching import fetch_models
from backattn.features.pipeline import require_usable
from backattn.features.plan import Stage, make_plan
from backattn.models.vouchers import Vouchers, vouchers_of_recipe
from backattn.recipe import EmbeddingName, Recipe, load_recipe
from backattn.store.layout import Entry
from backattn.store.reader import StoreReader

if TYPE_CHECKING:
    from backattn.english.flair import FlairTagger
    from backattn.translation import Translator

# Name of T among the kinds of vectors; the others are named after the embeddings.
TRANSFER: Literal["T"] = "T"
# Sentences that are computed at a time, which bounds the memory of their translations.
_BATCH = 256
# Most numbers of all A that are computed at a time, a gigabyte: a sentence of m tokens counts as m * m.
_MOST_PAIRS = 1 << 28
_STORE_SUFFIX = ".h5"
# Computes the entries of sentences for a kind of vectors, and tells their width.
Compute = Callable[[str, Sequence[Sentence]], tuple[list[Entry], int]]


class FeatureModels:
    """The models of a recipe, each loaded when it is first needed."""

    def __init__(self, recipe: Recipe, device: str, vouchers: Vouchers) -> None:
        self._recipe = recipe
        self._device = device
        self._vouchers = vouchers
        self._embedders: dict[str, Embedder] = {}

    # Loaded only for T, because their packages need not be installed otherwise.
    @cached_property
    def _translator(self) -> "Translator":
        from backattn.features.pipeline import load_translator

        return load_translator(self._recipe, self._device)

    @cached_property
    def _english(self) -> "FlairTagger":
        from backattn.features.pipeline import load_english_tagger

        return load_english_tagger(self._recipe, self._device, self._vouchers)

    @property
    def transfer_width(self) -> int:
        """Width of T."""
        return transfer_width(self._english, self._recipe.transfer)

    def compute(self, name: str, sentences: Sequence[Sentence]) -> tuple[list[Entry], int]:
        """Compute T, or an embedding, of sentences, and tell its width.

        :raises MissingError: a model, or a package that it needs, is missing.
        :raises ModelError: a model is damaged, or a pickle has no voucher.
        """
        if name == TRANSFER:
            return self._transfer(sentences), self.transfer_width
        if name not in self._embedders:
            from backattn.features.pipeline import load_embedder

            self._embedders[name] = load_embedder(
                self._recipe, cast(EmbeddingName, name), self._device, self._vouchers
            )
        embedder = self._embedders[name]
        return embedding_entries(embedder, sentences, self._recipe.embeddings.dtype), embedder.width

    def _transfer(self, sentences: Sequence[Sentence]) -> list[Entry]:
        recipe = self._recipe.transfer
        keys = [sentence.key for sentence in sentences]
        translations = dict(zip(keys, translation_entries(self._translator, sentences), strict=True))
        return transfer_entries(self._english, transfer_attention(recipe), recipe, sentences, translations)


class FeatureSource:
    """Provides vectors of any kind for sentences: stored ones, and computed ones for the other sentences.

    :param stores: kind of vectors -> its store; None where there is none yet.
    """

    def __init__(self, stores: Mapping[str, StoreReader | None], compute: Compute) -> None:
        self._stores = stores
        self._compute = compute
        self._verified: set[str] = set()  # names of stores

    def entries(self, name: str, unique: Sequence[Sentence]) -> tuple[dict[bytes, Entry], int]:
        """Return the entries of different sentences by key, and the width of the vectors.

        :raises StoreError: the store is damaged.
        """
        store, known, width = self._stores[name], dict[bytes, Entry](), 0
        if store is not None:
            known = {sentence.key: store[sentence.key] for sentence in unique if sentence.key in store}
            width = int(store.attributes["d"])
            if known and name not in self._verified:
                store.verify()  # every byte, once, as before a training
                self._verified.add(name)
        fresh = [sentence for sentence in unique if sentence.key not in known]
        for part in _parts(fresh):
            computed, width = self._compute(name, part)
            known |= {sentence.key: entry for sentence, entry in zip(part, computed, strict=True)}
        return known, width


def _parts(sentences: Sequence[Sentence]) -> Iterator[list[Sentence]]:
    """Cut a list of sentences into parts whose A have at most ``_MOST_PAIRS`` numbers together."""
    part: list[Sentence] = []
    pairs = 0
    for sentence in sentences:
        if part and pairs + len(sentence) ** 2 > _MOST_PAIRS:
            yield part
            part, pairs = [], 0
        part.append(sentence)
        pairs += len(sentence) ** 2
    if part:
        yield part


class TransferVectors:
    """T of any sentences by a recipe: from its store where that holds them, computed otherwise.

    :param source: LANG (name or path of a recipe), or the path of a transfer store (``.h5``), which serves
        its own sentences without any model.
    :param trust: open any pickle.
    :param trusted: sha256 of pickles that may be opened, beside those that the recipe vouches for.
    :raises MissingError: the recipe, the store or a model is missing.
    :raises RecipeError: the recipe has no English tagger, or is wrong.
    :raises StoreError: the store is damaged, or holds something else than T.
    """

    def __init__(
        self, source: str, *, device: str = "auto", trust: bool = False, trusted: Iterable[str] = ()
    ) -> None:
        self._name = source
        self._models: FeatureModels | None = None
        if source.endswith(_STORE_SUFFIX):
            self._store: StoreReader | None = _transfer_store(source)
            self.recipe_id = self._store.recipe_id
            compute: Compute = self._refuse
        else:
            self._open_recipe(source, pick_device(device), trust, trusted)
            compute = self._compute
        self._source = FeatureSource({TRANSFER: self._store}, compute)

    def _open_recipe(self, lang: str, device: str, trust: bool, trusted: Iterable[str]) -> None:
        self._recipe = load_recipe(lang)
        self._vouchers = vouchers_of_recipe(lang, self._recipe, trust=trust, named=trusted)
        fetch_models(self._recipe, "transfer", vouchers=self._vouchers)
        # A store's id does not depend on the corpus.
        self._stage: Stage = make_plan(self._recipe, Corpus((), (), ()), "transfer").transfer
        self._store = self._stage.open()
        self.recipe_id = self._stage.recipe_id
        self._models = FeatureModels(self._recipe, device, self._vouchers)

    @property
    def width(self) -> int:
        """Width of T; loads the English tagger where there is no store."""
        if self._store is not None:
            return int(self._store.attributes["d"])
        assert self._models is not None
        self._require_computable()
        return self._models.transfer_width

    def of(self, sentences: Sequence[tuple[str, ...]]) -> list[NDArray[Any]]:
        """T of sentences of at least one token, in their order. *Shape of each:* (m, width)"""
        found: list[NDArray[Any]] = []
        for start in range(0, len(sentences), _BATCH):
            part = sentences[start : start + _BATCH]
            unique = {tokens: Sentence(tokens, (OUTSIDE,) * len(tokens)) for tokens in part}
            entries, _ = self._source.entries(TRANSFER, [*unique.values()])
            found += [entries[unique[tokens].key]["vectors"].copy() for tokens in part]
        return found

    def _compute(self, name: str, fresh: Sequence[Sentence]) -> tuple[list[Entry], int]:
        assert self._models is not None
        self._require_computable()
        return self._models.compute(name, fresh)

    def _require_computable(self) -> None:
        if self._recipe.transfer.attention == "links":
            raise RecipeError(
                f"recipe {self._recipe.name}: transfer.attention is links, and nobody has linked new text; "
                "expected sentences that its store holds, or another attention"
            )
        require_usable([self._stage], self._recipe, self._vouchers)

    def _refuse(self, name: str, fresh: Sequence[Sentence]) -> tuple[list[Entry], int]:
        raise StaleError(
            f"{self._name}: has no {name} of {quoted(' '.join(fresh[0].tokens))} ({len(fresh):,} such "
            "sentences); name the recipe in place of the store, so that it is computed"
        )


def _transfer_store(path: str) -> StoreReader:
    store = StoreReader(Path(path))
    if store.kind != "transfer":
        raise StoreError(
            f"{path}: is a store of kind {store.kind}, expected one of T; they are the files "
            "cache/LANG/transfer/*.h5"
        )
    return store


def features(
    source: str,
    sentences: Sequence[Sequence[str]],
    *,
    device: str = "auto",
    trust: bool = False,
    trust_sha256: Iterable[str] = (),
) -> list[NDArray[Any]]:
    """T = A R of tokenised sentences: what the English tagger knows about each of their tokens.

    Sentences that the recipe's store holds are read from it; the others are computed with the recipe's models
    and not stored. Call it once with many sentences: each call loads the models that it needs.

    :param source: name of a recipe (LANG), or the path of one (``.toml``) or of a transfer store (``.h5``).
    :param sentences: a list of lists of tokens, each of at least one.
    :param device: ``cpu``, ``cuda`` or ``auto``.
    :param trust: open flair models whatever their sha256. They are pickles, which can run code.
    :param trust_sha256: sha256 of flair models that may be opened.
    :return: an array for each sentence, in their order. *Shape:* (m, d)

    >>> import backattn
    >>> [t.shape for t in backattn.features("es", [["Ana", "vive", "en", "Lugo"], ["Hola"]])]
    [(4, 32), (1, 32)]
    """
    if not isinstance(source, str):
        raise RecipeError(
            f"features: found {quoted(source)}, expected the name of a recipe, or a path as text"
        )
    check_switches(trust=trust)
    tokens = given_tokens(sentences)
    vectors = TransferVectors(source, device=device, trust=trust, trusted=named_digests(trust_sha256))
    return vectors.of(tokens)
