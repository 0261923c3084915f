"""The caption-text floor: how well words alone tell a group of pictures from controls, without looking at any picture.

A benchmark whose memorized captions are written differently (more capitals, other words) is solved by reading them. A
metric that separates no better than this floor has shown nothing. The floor is a logistic regression on character
n-grams, scored out of fold. The same caption never stands on both sides of a split: recognising a repeated caption is
not telling its kind.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FOLDS = 5
READ = 1000


def caption_floor(group_captions: Sequence[str], control_captions: Sequence[str], seed: int) -> Floats:
    """Return a score for every caption, of the group first, then of the controls: high when it reads like the group's.

    Args:
        group_captions: Captions of the pictures said to be memorized.
        control_captions: Captions of pictures known not to be.
        seed: Of the split into five folds.

    Returns:
        Log-odds out of fold, shape ``(len(group) + len(controls),)``; all NaN when either side has fewer than five
        different captions, because then words cannot be told from one caption repeated.

    Cost:
        Five logistic regressions; the first 1,000 characters of a caption are read.

    Example:
        >>> shouting, calm = [f"BUY {n} NOW" for n in range(9)], [f"a quiet lake {n}" for n in range(9)]
        >>> scores = caption_floor(shouting, calm, seed=0)
        >>> bool(scores[:9].min() > scores[9:].max())
        True
    """
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    both = (*group_captions, *control_captions)
    captions = [caption[:READ].encode("utf-8", "replace").decode() for caption in both]  # no lone surrogates
    y = np.repeat([1, 0], [len(group_captions), len(control_captions)])
    scores = np.full(len(captions), np.nan)
    if min(len(set(captions[: len(group_captions)])), len(set(captions[len(group_captions) :]))) < FOLDS:
        return scores
    fold = _folds(captions, y, seed)
    words = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 3), lowercase=False, n_features=2**16, norm=None)
    counts = csr_matrix(words.transform(captions))
    for number in range(FOLDS):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        weigh = TfidfTransformer().fit(counts[train])
        model = LogisticRegression(solver="liblinear", class_weight="balanced", C=10.0, random_state=seed)
        model.fit(weigh.transform(counts[train]), y[train])
        scores[test] = model.decision_function(weigh.transform(counts[test]))
    return scores


def _folds(captions: Sequence[str], y: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Deal different captions out to the folds at random, those of the group and those of the controls apart."""
    rng = np.random.default_rng(seed)
    fold: dict[str, int] = {}
    for side in (1, 0):
        fresh = sorted({caption for caption, of in zip(captions, y, strict=True) if of == side} - fold.keys())
        fold.update((fresh[index], place % FOLDS) for place, index in enumerate(rng.permutation(len(fresh)).tolist()))
    return np.array([fold[caption] for caption in captions])
