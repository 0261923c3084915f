import pytest
import torch

from captioned_mixture import batch_of, memorizer, normal_points, pictured
from pointland.lid import DenoisingLoss
from pointland.metrics import DenoisingLossColumns, SwappedCaption
from pointland.metrics.swapped_caption import swap


def test_a_memorizer_does_not_read_as_memorized_under_another_caption() -> None:
    x = normal_points(6, 48)
    batch = batch_of(memorizer(x), x, pictured(6))
    own = DenoisingLossColumns(DenoisingLoss(0.5))(batch)["denoising_loss_conditional"]
    swapped = SwappedCaption(tuple(pictured(6)), 0.5)(batch)["denoising_loss_swapped"]
    assert own.max() < 1e-6
    assert swapped.min() > 100  # it is pulled to another point, 48 coordinates away
    pool = pictured(6)
    given = [pool.index(swap(pool, key, caption, 0)) for key, caption in zip(batch.keys, pool, strict=True)]
    wanted = (x[given] - x).square().sum(1) / 0.25
    torch.testing.assert_close(swapped, wanted, rtol=1e-4, atol=1e-3)


def test_one_memorized_whatever_the_words_still_reads_low() -> None:
    x = normal_points(1, 48).repeat(2, 1)
    got = SwappedCaption(("picture 0", "picture 1"), 0.5)(batch_of(memorizer(x), x, pictured(2)))
    assert got["denoising_loss_swapped"].max() < 1e-6


def test_the_choice_is_the_item_s_own() -> None:
    x = normal_points(5, 48)
    captions = [*pictured(3), None, "plain 0"]
    keys = [f"key {i}" for i in range(5)]
    pool = ("plain 0", "plain 1", "plain 2", "picture 0")
    metric = SwappedCaption(pool, 0.5, n_draws=3)
    together = metric(batch_of(memorizer(x), x, captions, keys))
    turned = SwappedCaption(pool[::-1] + pool[:1], 0.5, n_draws=3)(
        batch_of(memorizer(x), x.flip(0), captions[::-1], keys[::-1])
    )
    for name, value in together.items():
        torch.testing.assert_close(value, turned[name].flip(0), equal_nan=True)
        for i in range(5):
            alone = metric(batch_of(memorizer(x), x[i : i + 1], captions[i : i + 1], keys[i : i + 1]))
            torch.testing.assert_close(value[i : i + 1], alone[name], equal_nan=True)
        assert value.isnan().tolist() == [False, False, False, True, False]


def test_never_the_own_caption_and_every_other_about_equally_often() -> None:
    pool = sorted(f"word {i}" for i in range(5))
    chosen = [swap(pool, f"key {i}", "word 2", seed=0) for i in range(2000)]
    assert "word 2" not in chosen
    assert min(chosen.count(word) for word in set(pool) - {"word 2"}) > 300
    assert chosen != [swap(pool, f"key {i}", "word 2", seed=1) for i in range(2000)]
    assert {swap(pool, f"key {i}", "no word of the pool", seed=0) for i in range(99)} == set(pool)
    assert swap(["a", "b"], "lone \ud800 surrogate", "a", seed=0) == "b"


def test_without_captions_there_is_nothing_and_it_costs_nothing() -> None:
    x = normal_points(2, 48)
    model = memorizer(x)
    got = SwappedCaption(("plain 0", "plain 1"), 0.5)(batch_of(model, x))
    assert set(got) == {"denoising_loss_swapped", "denoising_loss_swapped_stderr"}
    assert all(value.isnan().all() for value in got.values())
    assert model.calls == []


def test_a_pool_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="two different captions"):
        SwappedCaption(("a", "a"), 0.5)
