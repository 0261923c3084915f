from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pointland import draws

Draw = Callable[..., Tensor]
KEYS = ["a.png", "b.png", "c.png"]
both = pytest.mark.parametrize("draw", [draws.normal, draws.signs])


@both
def test_fewer_draws_are_the_first_of_more(draw: Draw) -> None:
    x = torch.zeros(3, 2, 4)
    assert torch.equal(draw(x, KEYS, 5, 0)[:2], draw(x, KEYS, 2, 0))


@both
def test_draws_do_not_depend_on_position_or_neighbors(draw: Draw) -> None:
    x = torch.zeros(3, 5)
    whole = draw(x, KEYS, 2, 7)
    assert torch.equal(draw(x, KEYS[::-1], 2, 7), whole.flip(1))
    assert torch.equal(draw(x[:1], KEYS[1:2], 2, 7), whole[:, 1:2])


@both
def test_draws_do_not_depend_on_the_dtype_of_x_or_the_values_in_it(draw: Draw) -> None:
    single = draw(torch.zeros(3, 5), KEYS, 2, 0)
    double = draw(torch.ones(3, 5, dtype=torch.float64), KEYS, 2, 0)
    assert single.dtype == torch.float32
    assert double.dtype == torch.float64
    assert torch.equal(single.double(), double)


@both
def test_seed_key_and_draw_each_change_the_numbers(draw: Draw) -> None:
    x = torch.zeros(1, 64)
    one = draw(x, ["a"], 2, 0)
    assert torch.equal(one, draw(x, ["a"], 2, 0))
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one, draw(x, ["a"], 2, 1))
    assert not torch.equal(one, draw(x, ["b"], 2, 0))


@both
def test_the_global_generator_is_neither_read_nor_moved(draw: Draw) -> None:
    x = torch.zeros(1, 8)
    torch.manual_seed(0)
    before, one = torch.get_rng_state(), draw(x, ["a"], 1, 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(draw(x, ["a"], 1, 0), one)


@both
@pytest.mark.parametrize("key", ["", "雪.png", "\udce9.png", "a\0b"])
@pytest.mark.parametrize("seed", [0, -1, 2**70])
def test_any_text_is_a_key_and_any_integer_a_seed(draw: Draw, key: str, seed: int) -> None:
    assert draw(torch.zeros(1, 3), [key], 1, seed).shape == (1, 1, 3)


@both
def test_one_key_an_item(draw: Draw) -> None:
    with pytest.raises(ValueError, match="2 keys for 3 items"):
        draw(torch.zeros(3, 2), ["a", "b"], 1, 0)


@both
def test_empty_batches_and_no_draws_have_their_shapes(draw: Draw) -> None:
    assert draw(torch.zeros(0, 2, 3), [], 4, 0).shape == (4, 0, 2, 3)
    assert draw(torch.zeros(2, 3), ["a", "b"], 0, 0).shape == (0, 2, 3)


def test_moments() -> None:
    x = torch.zeros(1, 40_000)
    for values in (draws.normal(x, ["a"], 1, 0), draws.signs(x, ["a"], 1, 0)):
        # 5 standard errors of the mean, 0.005, and of the variance, 0.0071
        assert abs(float(values.mean())) < 0.025
        assert abs(float(values.var()) - 1) < 0.036
    assert set(draws.signs(x, ["a"], 1, 0).unique().tolist()) == {-1.0, 1.0}  # type: ignore[no-untyped-call]
