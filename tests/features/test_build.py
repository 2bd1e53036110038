"""Stage one's bookkeeping, with two fake models that count: what is computed, once, and what is not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backattn.common.errors import CorpusError, MissingError, ModelError, StaleError, StoreError
from backattn.corpus import Corpus, Sentence
from backattn.features import build, pipeline
from backattn.features.check import check
from backattn.features.engines import shard
from backattn.features.gc import collect_garbage
from backattn.features.plan import NOT_IN_IDENTITY, Plan, make_plan
from backattn.models.vouchers import Vouchers
from backattn.recipe import Recipe
from backattn.store import seal, writer
from backattn.store.layout import decode_lines
from backattn.store.reader import StoreReader
from backattn.translation import Translation
from fakes import FakeEnglishTagger, FakeTranslator, make_corpus, make_recipe, make_sentence


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Model files for the digests; the fakes never open them."""
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    (tmp_path / "toy/translator").mkdir(parents=True)
    (tmp_path / "toy/translator/checkpoint.pt").write_text("translator")
    (tmp_path / "toy/english").mkdir()
    (tmp_path / "toy/english/tagger.pt").write_text("tagger")
    return tmp_path


def run(
    corpus: Corpus,
    recipe: Recipe | None = None,
    translator: FakeTranslator | None = None,
    tagger: FakeEnglishTagger | None = None,
) -> tuple[Plan, build.Built, build.Built, FakeTranslator, FakeEnglishTagger]:
    recipe = recipe or make_recipe()
    translator, tagger = translator or FakeTranslator(), tagger or FakeEnglishTagger()
    plan = make_plan(recipe, corpus)
    first = build.build_translations(plan.translation, lambda: translator, "cpu")
    second = build.build_transfers(
        plan.transfer, StoreReader(plan.translation.path), recipe.transfer, lambda: tagger, "cpu"
    )
    return plan, first, second, translator, tagger


def numbers(store: StoreReader) -> dict[str, str]:
    """Digests of all that a store holds, but for the names of the runs that computed it."""
    return {name: value for name, value in store.digests.items() if name != "origin"}


def refuse_to_load() -> FakeTranslator:
    raise AssertionError("a model was loaded though nothing is missing")


TEXTS = [f"{'word ' * (i % 7)}sentence {i}" for i in range(60)]


def test_the_store_holds_the_equation() -> None:
    plan, *_ = run(make_corpus(["ab cd ef", "nothing"]))
    sentence = make_sentence("ab cd ef")
    translation = FakeTranslator().translate([sentence.tokens])[0]
    states = FakeEnglishTagger().read([translation.english])[0].states
    attention = translation.attention.astype(np.float16).astype(np.float32)
    expected = np.zeros((3, 5), np.float32)
    for i in range(3):
        for j in range(2):
            for k in range(5):
                expected[i, k] += attention[i, j] * states[j, k]
    store = StoreReader(plan.transfer.path)
    np.testing.assert_allclose(store[sentence.key]["vectors"], expected, rtol=1e-3)
    english = StoreReader(plan.translation.path).column("english", sentence.key)
    assert decode_lines(english) == ("ba", "fe")


def test_an_empty_translation_gives_zeros_and_is_counted() -> None:
    plan, first, second, *_ = run(make_corpus(["nothing", "a b c d e f g h i"]))
    assert first.counts == {"empty": 1, "segmented": 1, "limited": 1}
    assert second.counts == {"empty": 1}
    vectors = StoreReader(plan.transfer.path).column("vectors", make_sentence("nothing").key)
    assert vectors.shape == (1, 5)
    assert not vectors.any()


def test_duplicates_are_computed_once() -> None:
    *_, translator, tagger = run(make_corpus(["x y", "x y", "y x"], dev=["x y"], test=["y x"]))
    assert sorted(translator.seen) == [("x", "y"), ("y", "x")]
    assert len(tagger.seen) == 2


def test_a_label_edit_and_a_new_order_cost_nothing() -> None:
    run(make_corpus(["x y", "z"]))
    edited = make_corpus(["z"], dev=["a b"], test=["c d"])
    edited = Corpus((*edited.train, Sentence(("x", "y"), ("B-PER", "E-PER"))), edited.dev, edited.test)
    plan = make_plan(make_recipe(), edited)
    assert [status.state for status in check(plan, deep=True)] == ["fresh", "fresh"]
    built = build.build_translations(plan.translation, refuse_to_load, "cpu")
    assert built.computed == 0


def test_an_edited_corpus_costs_its_new_sentences_and_equals_a_fresh_run(models: Path) -> None:
    run(make_corpus(TEXTS))
    edited = make_corpus([*TEXTS[5:], "brand new", "and another one"])
    plan, first, second, translator, _ = run(edited)
    assert (first.computed, second.computed) == (2, 2)
    assert sorted(translator.seen) == [("and", "another", "one"), ("brand", "new")]
    incremental = StoreReader(plan.transfer.path)
    assert len(incremental) == len(edited.unique) + 5
    collect_garbage(plan, others=False, dry_run=False)
    incremental = StoreReader(plan.transfer.path)
    assert len(incremental) == len(edited.unique)
    for path in (plan.translation.path, plan.transfer.path):
        path.unlink()
    run(edited)
    fresh = StoreReader(plan.transfer.path)
    assert numbers(fresh) == numbers(incremental)


def test_a_smaller_corpus_for_a_while_costs_nothing(models: Path) -> None:
    """A trial with two sentences, a branch with fewer: the way back is free."""
    corpus = make_corpus(TEXTS)
    plan, *_ = run(corpus)
    before = numbers(StoreReader(plan.transfer.path))
    vectors = {key: entry["vectors"] for key, entry in StoreReader(plan.transfer.path).items()}
    few = make_corpus(["brand new", "u v"])
    _, first, second, *_ = run(few)
    assert (first.computed, first.sentences) == (second.computed, second.sentences) == (2, 4)
    assert [(s.state, s.extra) for s in check(make_plan(make_recipe(), few))] == [("fresh", len(TEXTS))] * 2
    _, first, second, *_ = run(corpus)
    assert (first.computed, second.computed) == (0, 0)
    after = StoreReader(plan.transfer.path)
    assert all(np.array_equal(after[key]["vectors"], rows) for key, rows in vectors.items())
    # What can go, goes while others are missing, too.
    lacking = make_plan(make_recipe(), make_corpus([*TEXTS, "not yet there"]))
    assert len(collect_garbage(lacking, others=False, dry_run=False)) == 2
    assert numbers(StoreReader(plan.transfer.path)) == before


def test_a_new_english_tagger_or_policy_costs_no_translation(models: Path) -> None:
    corpus = make_corpus(["x y", "z"])
    old, *_ = run(corpus)
    (models / "toy/english/tagger.pt").write_text("another tagger")
    plan, first, second, *_ = run(corpus, tagger=FakeEnglishTagger(2.0))
    assert (first.computed, second.computed) == (0, 4)
    assert plan.transfer.path != old.transfer.path
    _, first, second, *_ = run(corpus, make_recipe(transfer={"eos": "keep", "normalise": "source"}))
    assert (first.computed, second.computed) == (0, 4)


@pytest.mark.parametrize("shards_done", [1, 2, 3])
def test_a_stopped_run_goes_on_and_gives_the_same_bytes(
    shards_done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "SHARD_TOKENS", 50)
    corpus = make_corpus(TEXTS)
    plan = make_plan(make_recipe(), corpus)
    stopped = FakeTranslator(stop_after=1 + (shards_done - 1) * 9)
    with pytest.raises(KeyboardInterrupt):
        build.build_translations(plan.translation, lambda: stopped, "cpu")
    assert not plan.translation.path.exists()
    (plan.translation.shards / f"{16 * '0'}.h5.01234567.partial").write_bytes(b"left by a killed writer")
    (plan.translation.shards / f"{16 * '0'}.h5").write_bytes(b"damaged")
    _, first, _, translator, _ = run(corpus)
    assert first.resumed == len(stopped.seen) > 0
    assert first.computed + first.resumed == len(corpus.unique)
    assert not set(translator.seen) & set(stopped.seen)
    resumed = numbers(StoreReader(plan.translation.path))
    assert not plan.translation.shards.exists()
    plan.translation.path.unlink()
    run(corpus)
    assert numbers(StoreReader(plan.translation.path)) == resumed


def test_a_large_corpus_has_larger_shards_and_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SHARD_TOKENS", 1)
    monkeypatch.setattr(build, "_MAX_SHARDS", 3)
    sizes: list[int] = []
    plain = shard.compute_shard
    monkeypatch.setattr(
        shard, "compute_shard", lambda *given: sizes.append(len(given[3].sentences)) or plain(*given)
    )
    corpus = make_corpus(TEXTS)
    build.build_translations(make_plan(make_recipe(), corpus).translation, FakeTranslator, "cpu")
    assert sum(sizes) == len(corpus.unique)
    assert len(sizes) <= 3 < len(corpus.unique)


def test_a_run_stopped_just_before_the_join_loads_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make_corpus(TEXTS)
    plan = make_plan(make_recipe(), corpus)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "merge_stores", killed)
    with pytest.raises(KeyboardInterrupt):
        build.build_translations(plan.translation, FakeTranslator, "cpu")
    monkeypatch.undo()
    monkeypatch.setenv("BACKATTN_CACHE", str(plan.translation.path.parents[2]))
    built = build.build_translations(plan.translation, refuse_to_load, "cpu")
    assert (built.computed, built.resumed) == (0, len(corpus.unique))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a * np.nan, "A is not finite"),
        (lambda a: a[1:], "the translator saw 1 source tokens, the sentence has 2: a b"),
    ],
)
def test_unusable_attention_is_refused_with_the_sentence(
    change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    class Broken(FakeTranslator):
        def _one(self, tokens: tuple[str, ...]) -> Translation:
            good = super()._one(tokens)
            return Translation(good.english, change(good.attention))

    with pytest.raises(ModelError, match=message):
        run(make_corpus(["a b"], test=["a b"]), translator=Broken())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_unusable_states_are_refused_with_the_sentence(value: float) -> None:
    class Broken(FakeEnglishTagger):
        def _states(self, tokens: tuple[str, ...]) -> np.ndarray:
            states = super()._states(tokens)
            states[-1, 2] = value
            return states

    with pytest.raises(ModelError, match="R is not finite as float32 for the sentence 'a b'"):
        run(make_corpus(["a b"], test=["a b"]), tagger=Broken())


def test_a_damaged_number_never_gets_a_new_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is built upon an old store verifies it first: a join, and T from the translations."""
    monkeypatch.setattr(writer, "BIG", 1)  # no array is verified on opening, as in a store of gigabytes
    plan, *_ = run(make_corpus(TEXTS))
    for stage, array in ((plan.transfer, "vectors"), (plan.translation, "attention")):
        reader = StoreReader(stage.path)
        data = bytearray(stage.path.read_bytes())
        place = data.index(reader._raw(array).tobytes())
        data[place] ^= 1
        whole = stage.path.read_bytes()
        stage.path.write_bytes(data)
        StoreReader(stage.path)
        with pytest.raises(StoreError, match=f"{array} differs from its digest"):
            run(make_corpus([*TEXTS, "brand new"]))
        assert stage.path.read_bytes() == data
        stage.path.write_bytes(whole)
    plan.transfer.path.unlink()
    plan.translation.path.write_bytes(data)
    with pytest.raises(StoreError, match="attention differs from its digest"):
        run(make_corpus(TEXTS))
    assert not plan.transfer.path.exists()


def test_an_overflow_of_float16_is_refused_with_the_sentence() -> None:
    with pytest.raises(ModelError, match=r"T is not finite as float16 for the sentence .*transfer.dtype"):
        run(make_corpus(["a b"]), tagger=FakeEnglishTagger(1e9))
    run(make_corpus(["a b"]), make_recipe(transfer={"dtype": "float32"}), tagger=FakeEnglishTagger(1e9))


def test_what_is_excluded_from_the_identity_does_not_move_it_and_the_rest_does(models: Path) -> None:
    corpus = make_corpus(["x"])

    def ids(**sections: object) -> tuple[str, str]:
        plan = make_plan(make_recipe(**sections), corpus)
        return plan.translation.recipe_id, plan.transfer.recipe_id

    base = ids()
    (models / "moved").mkdir()
    (models / "moved/checkpoint.pt").write_text("translator")
    translator = {"kind": "fairseq", "checkpoint": "toy/translator", "source": "de"}
    places = {"checkpoint", "revision", "vectors", "path", "links_path"}
    assert places | {"batch_tokens", "training", "sha256", "licence"} == NOT_IN_IDENTITY
    moved = {"batch_tokens": 7, "checkpoint": "moved", "licence": "MIT"}
    assert ids(translator={**translator, **moved}) == base
    english = {"checkpoint": "toy/english/tagger.pt", "batch_tokens": 7, "sha256": "ab" * 32}
    assert ids(english={**english, "licence": "CC-BY-NC-4.0"}) == base
    for key, value in {
        "beam": 2,
        "max_len_a": 2.0,
        "max_len_b": 3,
        "segment_pieces": 9,
        "precision": "bfloat16",
    }.items():
        translation, transfer = ids(translator={**translator, key: value})
        assert translation != base[0]
        assert transfer != base[1]
    for key, value in {
        "eos": "keep",
        "normalise": "source",
        "dtype": "float32",
        "states": "tags",
        "source_states": True,
    }.items():
        translation, transfer = ids(transfer={key: value})
        assert translation == base[0]
        assert transfer != base[1]
    # Of a pickle of the hub, the digest is known where it is pinned.
    hub = {"hub": "flair/ner-english"}
    pins = [ids(english={**hub, "sha256": pin * 64}) for pin in "aAb"]
    assert len(set(pins)) == 2
    assert pins[0] == pins[1]
    # What is not asked for is no part of a name.
    copy = {"kind": "copy", "source": "de"}
    assert ids(translator={**copy, "source": "fr"}) == ids(translator=copy) != base
    (models / "cedict").write_text("a a [a1] /one/")
    entries = {"kind": "dictionary", "source": "de", "dictionary": str(models / "cedict")}
    by_dictionary = ids(translator=entries)
    assert ids(translator={**entries, "source": "fr"}) == by_dictionary != base
    assert ids(translator={**entries, "source": "zh"}) != by_dictionary  # written without blanks
    (models / "cedict").rename(models / "elsewhere")
    assert ids(translator={**entries, "dictionary": str(models / "elsewhere")}) == by_dictionary
    with pytest.raises(MissingError, match=r"cedict: no such file \(translator\.dictionary of the recipe\)"):
        ids(translator=entries)
    (models / "cedict").write_text("a a [a1] /two/")
    assert ids(translator=entries) != by_dictionary
    uniform = {"attention": "uniform"}
    assert ids(transfer={**uniform, "eos": "keep", "links": {"path": "x"}}) == ids(transfer=uniform)
    assert ids(transfer={"links": {"path": "x"}}) == base
    (models / "toy/translator/checkpoint_last.pt").write_text("not opened")
    (models / "toy/translator/notes.txt").write_text("not opened")
    assert ids() == base
    (models / "toy/translator/dict.en.txt").write_text("opened")
    assert ids()[0] != base[0]
    (models / "toy/translator/dict.en.txt").unlink()
    # A default is part of a name as any other value is.
    assert make_plan(make_recipe(), corpus).transfer.recipe["transfer"]["states"] == "lstm"
    assert ids(transfer={"states": "lstm"}) == base


def test_check_says_what_is_missing_and_which_part_of_the_recipe_changed() -> None:
    corpus = make_corpus(["x y"])
    plan = make_plan(make_recipe(), corpus)
    assert [(s.state, s.reasons) for s in check(plan)] == [("missing", ("there is no store yet",))] * 2
    run(corpus)
    more = check(make_plan(make_recipe(), make_corpus(["x y", "brand new", "u", "v", "w"])))[0]
    assert (more.state, more.missing) == ("stale", 4)
    assert more.reasons[0] == "sentence not in the store: brand new"
    assert "... and 1 more sentences" in more.reasons
    fewer = check(make_plan(make_recipe(), make_corpus([], test=["a b"])))[0]
    assert (fewer.state, fewer.extra) == ("fresh", 2)
    changed = check(make_plan(make_recipe(transfer={"eos": "keep"}), corpus))[1]
    assert changed.state == "missing"
    assert changed.reasons == (f"transfer.eos: 'drop' in {plan.transfer.path.name}, 'keep' now",)
    changed = check(make_plan(make_recipe(transfer={"states": "tags"}), corpus))[1]
    assert changed.reasons == (f"transfer.states: 'lstm' in {plan.transfer.path.name}, 'tags' now",)


def test_a_model_that_is_replaced_while_another_is_at_work_makes_no_store(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T of the new one would bear the name of the old one."""
    recipe, corpus = make_recipe(), make_corpus(["x y", "u v"])
    plan = make_plan(recipe, corpus)

    def translate(recipe: object, device: str, *, compared: bool) -> FakeTranslator:
        (models / "toy/english/tagger.pt").write_text("another")
        return FakeTranslator()

    monkeypatch.setattr(pipeline, "load_translator", translate)
    monkeypatch.setattr(pipeline, "load_english_tagger", lambda *_: FakeEnglishTagger(2.0))
    with pytest.raises(StaleError, match=r"a model that it is made with was changed while this command ran"):
        pipeline.make_features(recipe, plan, device="cpu", vouchers=Vouchers(trust=True))
    assert not plan.transfer.path.exists()
    again = make_plan(recipe, corpus)
    with pytest.raises(ModelError, match="a flair file is a pickle and can run code"):
        pipeline.make_features(recipe, again, device="cpu")
    made = pipeline.make_features(recipe, again, device="cpu", vouchers=Vouchers(trust=True))
    assert (made.translation.computed, made.transfer.computed) == (0, 4)
    assert again.transfer.path != plan.transfer.path


def test_a_swapped_store_is_refused() -> None:
    corpus = make_corpus(["x y"])
    plan, *_ = run(corpus)
    other, *_ = run(corpus, make_recipe(transfer={"eos": "keep"}))
    plan.transfer.path.write_bytes(other.transfer.path.read_bytes())
    with pytest.raises(StoreError, match="files were swapped"):
        plan.transfer.open()
    assert [status.state for status in check(plan)] == ["fresh", "corrupt"]
    plan.transfer.path.write_bytes(plan.translation.path.read_bytes())
    assert "holds the translation store" in check(plan)[1].reasons[0]


def test_more_sentences_than_a_store_holds_are_refused_before_any_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not when the finished store is to be sealed: with the real bound, that of days of work."""
    monkeypatch.setattr(seal, "MOST_INDEX_BYTES", 1 << 14)
    monkeypatch.setattr(seal, "MOST_FRAME_BYTES", (1 << 14) + 72 * 400)
    sentences = tuple(Sentence((f"w{number}",), ("O",)) for number in range(401))
    recipe, translator = make_recipe(), FakeTranslator()
    assert make_plan(recipe, Corpus(sentences[:400], (), ())).translation.sentences
    with pytest.raises(CorpusError, match="401 different sentences, a translation store holds at most 400"):
        run(Corpus(sentences, (), ()), recipe, translator)
    assert translator.seen == []


def test_a_store_of_the_most_sentences_can_be_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound that is told is one that the seal keeps."""
    room = 1 << 18
    monkeypatch.setattr(seal, "MOST_INDEX_BYTES", room)
    monkeypatch.setattr(seal, "MOST_FRAME_BYTES", room + 72 * 2000)
    assert seal.most_sentences("translation") == 2000
    corpus = Corpus(tuple(Sentence((f"w{n}",), ("O",)) for n in range(2000)), (), ())
    stage = make_plan(make_recipe(), corpus).translation
    assert build.build_translations(stage, FakeTranslator, "cpu").computed == 2000
    StoreReader(stage.path).verify()


def test_the_coverage_of_a_dictionary_is_counted_in_its_store(tmp_path: Path) -> None:
    pytest.importorskip("sacremoses")
    from backattn.translation.dictionary import DictionaryTranslator

    dictionary = tmp_path / "it.tsv"
    dictionary.write_text("lunedì\tMonday\nSan Remo\tSanremo\n", encoding="utf-8")
    recipe = make_recipe(translator={"kind": "dictionary", "source": "it", "dictionary": str(dictionary)})

    def translate(*splits: list[str]) -> tuple[build.Built, list[int]]:
        stage = make_plan(recipe, make_corpus(*splits)).translation
        built = build.build_translations(stage, lambda: DictionaryTranslator.load(recipe.translator), "cpu")
        store = StoreReader(stage.path)
        return built, [int(store[sentence.key]["unknown"][0]) for sentence in stage.sentences]

    built, unknown = translate(["Lunedì a San Remo", "a a a"], ["lunedì"], ["lunedì"])
    assert unknown == [1, 3, 0]
    assert (built.counts["translated"], built.counts["translated_percent"]) == (4, 50)  # of 8 tokens
    # What leaves the corpus counts no more.
    built, unknown = translate(["Lunedì a San Remo", "via"], ["via"], ["via"])
    assert unknown == [1, 1]
    assert (built.counts["translated"], built.counts["translated_percent"]) == (3, 60)
    # A translator with a model counts no such thing.
    assert "translated" not in run(make_corpus(["x y"]))[1].counts


def test_a_shard_is_cut_by_characters_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SHARD_TOKENS", 10)
    words, long = [f"b{i} c{i}" for i in range(5)], ["x" * 200, "y" * 200, "z" * 160]
    corpus = make_corpus([*long, *words])
    parts = list(build._cut([make_sentence(text) for text in (*long, *words)], 10))
    assert sorted(map(len, parts)) == [1, 1, 1, 5]  # five sentences of two words make a shard
    _, first, _, translator, _ = run(corpus)
    assert first.computed == len(corpus.unique) == len(translator.seen)
