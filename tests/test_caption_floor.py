import numpy as np
import pytest

from pointland.metrics.caption_floor import caption_floor
from pointland.verdict import auroc

WORDS = ["cotton", "linen", "denim", "silk", "shirt", "dress", "coat", "alder", "briar", "calder", "dunmore", "elgin"]


def captions(n: int, seed: int, decorate: str = "{}") -> list[str]:
    rng = np.random.default_rng(seed)
    return [decorate.format(" ".join(rng.choice(WORDS, 6))) for _ in range(n)]


def test_finds_a_difference_in_writing() -> None:
    scores = caption_floor(captions(40, 0, "BUY {} NOW"), captions(200, 1), seed=0)
    assert auroc(scores[:40], scores[40:]) > 0.99


def test_is_chance_on_the_same_grammar() -> None:
    scores = caption_floor(captions(200, 0), captions(200, 1), seed=0)
    assert 0.4 < auroc(scores[:200], scores[200:]) < 0.6  # standard error 0.03


def test_a_repeated_caption_is_not_recognised() -> None:
    """Every caption of the group twice, in words drawn from the controls' grammar: words alone say nothing."""
    scores = caption_floor(captions(60, 0) * 2, captions(120, 1), seed=0)
    assert auroc(scores[:120], scores[120:]) < 0.65


def test_same_seed_same_bytes_and_order_of_the_other_side_changes_nothing_in_shape() -> None:
    group, controls = captions(30, 0), captions(50, 1)
    first, again = caption_floor(group, controls, seed=3), caption_floor(group, controls, seed=3)
    assert first.tobytes() == again.tobytes()
    assert first.shape == (80,)
    assert np.isfinite(first).all()


@pytest.mark.parametrize("group", [[], ["one"] * 30, ["a", "b", "c", "d"]])
def test_too_few_different_captions_give_no_score(group: list[str]) -> None:
    assert np.isnan(caption_floor(group, captions(50, 1), seed=0)).all()


def test_a_megabyte_is_read_no_further_than_needed() -> None:
    scores = caption_floor([text + "x" * 1_000_000 for text in captions(6, 0)], captions(20, 1), seed=0)
    assert np.isfinite(scores).all()


def test_odd_text_is_read() -> None:
    odd = ["\ud800", "\x00", "", "‮abc", "<script>", "日本", "🙂"]
    assert np.isfinite(caption_floor(odd, captions(20, 1), seed=0)).all()
