"""T = A R against a triple loop and by its properties; m, n and d are always different."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backattn.features.back_attention import back_attention


def triple_loop(attention: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Eq. 5, one multiplication at a time, in double precision."""
    (m, n), d = attention.shape, states.shape[1]
    transfer = np.zeros((m, d))
    for j in range(m):
        for k in range(d):
            for i in range(n):
                transfer[j, k] += float(attention[j, i]) * float(states[i, k])
    return transfer


@st.composite
def matrices(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """A (m, n), its columns distributions, and R (n, d)."""
    m, n, d = draw(st.lists(st.integers(1, 9), min_size=3, max_size=3, unique=True))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    attention = torch.rand(m, n, generator=generator).softmax(0)
    return attention, torch.randn(n, d, generator=generator)


@given(matrices())
def test_equals_a_triple_loop(given_matrices: tuple[torch.Tensor, torch.Tensor]) -> None:
    attention, states = given_matrices
    expected = triple_loop(attention.numpy(), states.numpy())
    np.testing.assert_allclose(back_attention(attention, states).numpy(), expected, atol=1e-5)


@given(matrices())
def test_identity_attention_returns_the_states(given_matrices: tuple[torch.Tensor, torch.Tensor]) -> None:
    _, states = given_matrices
    assert torch.equal(back_attention(torch.eye(len(states)), states), states)


@given(matrices(), st.randoms(use_true_random=False))
def test_one_hot_rows_pick_states(given_matrices: tuple[torch.Tensor, torch.Tensor], random: object) -> None:
    attention, states = given_matrices
    chosen = [random.randrange(len(states)) for _ in range(len(attention))]  # type: ignore[attr-defined]
    one_hot = torch.nn.functional.one_hot(torch.tensor(chosen), len(states))
    assert torch.equal(back_attention(one_hot, states), states[chosen])


@given(matrices(), st.floats(-3, 3))
def test_is_linear_in_the_states(given_matrices: tuple[torch.Tensor, torch.Tensor], factor: float) -> None:
    attention, states = given_matrices
    other = states.flip(0)
    together = back_attention(attention, states + factor * other)
    apart = back_attention(attention, states) + factor * back_attention(attention, other)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_no_english_token_gives_zeros() -> None:
    assert torch.equal(back_attention(torch.zeros(3, 0), torch.zeros(0, 5)), torch.zeros(3, 5))


def test_accumulates_in_float32() -> None:
    """In float16 the sum of 4,096 ones and more stops growing at 2,048."""
    transfer = back_attention(
        torch.ones(2, 5000, dtype=torch.float16), torch.ones(5000, 3, dtype=torch.float16)
    )
    assert transfer.dtype == torch.float32
    assert torch.equal(transfer, torch.full((2, 3), 5000.0))


@pytest.mark.parametrize(
    ("attention", "states"), [((3, 4), (5, 2)), ((4, 3), (4, 2)), ((3,), (3, 2)), ((3, 4), (4,))]
)
def test_refuses_shapes_that_do_not_fit(attention: tuple[int, ...], states: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(m, n\) and \(n, d\)"):
        back_attention(torch.zeros(attention), torch.zeros(states))
