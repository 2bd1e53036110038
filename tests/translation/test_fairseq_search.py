"""Our beam search and fconv decoder against fairseq's own, untouched: token by token."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator
from torch import Tensor

import tiny_translator
from backattn.recipe import FairseqRecipe
from backattn.translation import fairseq_decoder, fairseq_fconv
from backattn.translation.beam_search import Hypothesis, NotFinite, Symbols, beam_search
from backattn.translation.fairseq_checkpoint import load_models
from backattn.translation.fairseq_fconv import ConvolutionalModel
from tiny_translator import SHAPES, make_translator

pytestmark = pytest.mark.slow

RECIPE = FairseqRecipe(checkpoint="toy", source="de")
LENGTHS = (3, 9, 1, 9, 14, 5)
# Every kind of layer that fairseq's option strings can say.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "uneven": {
        "encoder-layers": "[(16, 4), (20, 3), (16, 1, 2)]",
        "decoder-layers": "[(16, 4), (24, 2), (16, 3)]",
    },
    "residuals": {
        "encoder-layers": "[(16, 3, 0)] * 2",
        "decoder-layers": "[(16, 3, 0), (20, 3, 2), (16, 1, 3)]",
    },
    "attention": {"decoder-attention": "[False, True, False]"},
}


# The small models' wild weights magnify rounding; in double precision only a mistake can be seen.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}


def load(folder: Path, kind: str, seed: int, dtype: torch.dtype = torch.float64) -> tuple[list[Any], Any]:
    folder = folder / f"{kind}-{seed}"
    if not folder.exists():
        make_translator(folder, kind, seed=seed)
    models, _, target = load_models([folder / "checkpoint.pt"], RECIPE)
    return [model.to(dtype) for model in models], target


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each model is made once."""
    return tmp_path_factory.mktemp("models")


def sources(target: Any) -> list[Tensor]:
    """Random sentences; :data:`LENGTHS` repeats a length, so that some have no padding between them."""
    random = torch.Generator().manual_seed(1)
    draw = [torch.randint(target.nspecial, len(target), (n,), generator=random) for n in LENGTHS]
    return [torch.cat([pieces, torch.tensor([target.eos()])]) for pieces in draw]


def never(target: Any) -> list[str]:
    return [target.bos_word, *(symbol for symbol in target.symbols if symbol.startswith("madeupword"))]


def by_fairseq(models: list[Any], target: Any, source: Tensor, beam: int, limit: int) -> Hypothesis:
    """One sentence, nothing of ours."""
    generator = SequenceGenerator(
        models, target, beam_size=beam, max_len_b=limit, tokens_to_suppress=never(target)
    )
    inputs = {"src_tokens": source[None], "src_lengths": torch.tensor([len(source)])}
    best = generator.generate(models, {"net_input": inputs})[0][0]
    return Hypothesis(tuple(best["tokens"].tolist()[:-1]), best["attention"])


def by_us(models: list[Any], target: Any, rows: Sequence[Tensor], beam: int, limits: Sequence[int]) -> Any:
    """All sentences in one batch, padded on the left."""
    batch = torch.full((len(rows), max(map(len, rows))), target.pad())
    for row, source in zip(batch, rows, strict=True):
        row[-len(source) :] = source
    symbols = Symbols(target.eos(), (target.pad(), *map(target.index, never(target))))
    prepared = [fairseq_decoder.prepare_model(model, beam, "cpu") for model in models]
    with torch.inference_mode():
        return beam_search(
            fairseq_decoder.decoder_factory(prepared, beam)(batch), torch.tensor(limits), beam, symbols
        )


def assert_equal_to_fairseq(
    folder: Path, kind: str, *, seed: int, beam: int, dtype: torch.dtype
) -> list[Hypothesis]:
    models, target = load(folder, kind, seed, dtype)
    rows = sources(target)
    limits = [1 + 2 * len(source) for source in rows]
    limits[0] = 1
    expected = [by_fairseq(models, target, *pair) for pair in zip(rows, itertools.repeat(beam), limits)]
    found: list[Hypothesis] = by_us(models, target, rows, beam, limits)
    for source, ours, theirs in zip(rows, found, expected, strict=True):
        assert ours.pieces == theirs.pieces
        attention = ours.attention[-len(source) :]
        if kind == "fconv":  # of a transformer, fairseq gives the last layer's alone
            # (and keeps the attention in float32)
            close = {"atol": TOLERANCE[dtype], "rtol": 1e-6, "check_dtype": False}
            torch.testing.assert_close(attention, theirs.attention, **close)
        assert not ours.attention[: -len(source)].any()
        assert attention.shape == theirs.attention.shape
    return found


@pytest.mark.parametrize("beam", [1, 2, 4, 7])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", SHAPES)
def test_finds_what_fairseq_finds(shared: Path, kind: str, dtype: torch.dtype, seed: int, beam: int) -> None:
    found = assert_equal_to_fairseq(shared, kind, seed=seed, beam=beam, dtype=dtype)
    assert len({hypothesis.pieces for hypothesis in found}) > 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_convolution(tmp_path: Path, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiny_translator.SHAPES, "fconv", {**SHAPES["fconv"], **VARIANTS[variant]})
    assert_equal_to_fairseq(tmp_path, "fconv", seed=1, beam=3, dtype=torch.float64)


def test_without_a_layout_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of torch, or a processor, that does not have it."""

    def missing(weight: Tensor) -> Tensor:
        raise AttributeError

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", missing, raising=False)
    assert not fairseq_fconv.Dense(torch.eye(2), torch.ones(2)).packed
    assert_equal_to_fairseq(tmp_path, "fconv", seed=1, beam=3, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_product_keeps_the_type_of_what_comes(dtype: torch.dtype) -> None:
    weight, bias, x = torch.randn(3, 5), torch.randn(3), torch.randn(2, 7, 5)
    found = fairseq_fconv.Dense(weight, bias, dtype)(x)
    assert found.dtype == torch.float32
    tolerance = 1e-6 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(
        found, torch.nn.functional.linear(x, weight, bias), atol=tolerance, rtol=tolerance
    )


@pytest.mark.parametrize("kind", SHAPES)
def test_bfloat16_is_near_float32(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both read the same pieces. Weights as fairseq draws them: the wild ones would magnify the rounding."""
    monkeypatch.setattr(tiny_translator, "_scatter", lambda model: None)
    monkeypatch.setattr(tiny_translator, "_made", tiny_translator._made.__wrapped__)  # nothing kept
    models, target = load(tmp_path, kind, 1, torch.float32)
    prepared = [fairseq_decoder.prepare_model(model, 1, "cpu") for model in models]
    batch = torch.stack([row for row in sources(target) if len(row) == 10])
    with torch.inference_mode():
        exact = fairseq_decoder.decoder_factory(prepared, 1)(batch)
        wanted = [exact.step(batch[:, i : i + 1].clone(), torch.tensor([[0], [1]])) for i in range(8)]
        near = fairseq_decoder.decoder_factory(prepared, 1, bfloat16=True)(batch)
        found = [near.step(batch[:, i : i + 1].clone(), torch.tensor([[0], [1]])) for i in range(8)]
    assert not torch.equal(found[-1][0], wanted[-1][0])
    for (log_probs, attention), (expected, looked) in zip(found, wanted, strict=True):
        torch.testing.assert_close(log_probs.float(), expected, atol=0.3, rtol=0)
        torch.testing.assert_close(attention.float(), looked, atol=0.03, rtol=0)


def test_models_that_only_fairseq_can_run_are_left_to_it(tmp_path: Path) -> None:
    """An ensemble of fconv models: the twins say what the one says, through the other decoder."""
    models, target = load(tmp_path, "fconv", 1)
    twins, _ = load(tmp_path, "fconv", 1)
    rows, limits = sources(target), [20] * len(LENGTHS)
    one = by_us(models, target, rows, 4, limits)
    assert isinstance(fairseq_decoder.decoder_factory(models, 4).__self__, ConvolutionalModel)  # type: ignore[attr-defined]
    two = by_us([*models, *twins], target, rows, 4, limits)
    for ours, theirs in zip(one, two, strict=True):
        assert ours.pieces == theirs.pieces
        # fairseq masks padding in float32, whatever the model is in
        torch.testing.assert_close(ours.attention, theirs.attention, atol=1e-5, rtol=0)


class Table:
    """Says what a table says, whatever was said before. Looks at the row of the table it is in."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self.rows, self.at = torch.tensor(rows), 0

    def step(self, pieces: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        row = self.rows[min(self.at, len(self.rows) - 1)]
        self.at += 1
        return row.log().repeat(pieces.numel(), 1), torch.full((pieces.numel(), 2), float(self.at))


def test_the_best_mean_wins_though_it_is_longer() -> None:
    """EOS (0) is likely early, but a certain piece after it makes the longer one better a piece."""
    table = Table([[0.0, 0.6, 0.4], [0.5, 0.5, 0.0], [0.05, 0.95, 0.0], [1.0, 0.0, 0.0]])
    (best,) = beam_search(table, torch.tensor([5]), 2, Symbols(0, ()))
    assert best.pieces == (1, 1, 1)
    assert best.attention.tolist() == [[1, 2, 3, 4]] * 2
    assert math.log(0.6 * 0.5 * 0.95) / 4 > math.log(0.6 * 0.5) / 2


def test_fewer_words_than_hypotheses_is_no_error() -> None:
    (best,) = beam_search(Table([[0.5, 0.5, 0.0]]), torch.tensor([3]), 2, Symbols(0, (2,)))
    assert best.pieces == (1,)


@pytest.mark.parametrize("bad", [math.nan, 0.0])
def test_a_sentence_without_a_probability_is_named(bad: float) -> None:
    class OfTwo(Table):
        def step(self, pieces: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
            log_probs, attention = super().step(pieces, order)
            log_probs[len(log_probs) // 2 :] = math.log(bad) if bad else -math.inf
            return log_probs, attention

    with pytest.raises(NotFinite) as caught:
        beam_search(OfTwo([[0.2, 0.4, 0.4]]), torch.tensor([3, 3]), 2, Symbols(0, ()))
    assert caught.value.sentence == 1
