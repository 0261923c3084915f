r"""What is measured of generated pictures: similarity to the training set, copies, alignment, diversity.

Similarity is :math:`1 - d / s`, with ``d`` the root mean square distance in pixels to the nearest training picture and
``s`` the mean distance of two training pictures: 1 is a training picture, 0 no nearer to any than two of them are to
each other. A copy is a picture nearer to its prompt's own picture than 99 of 100 pictures never seen are to any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial.distance import cdist

from pointland.benchmarks.mitigation.truth import Prompts, Truth, flat

COPY_RATE = 0.01


@runtime_checkable
class Alignment(Protocol):
    """How well pictures show what was asked for, a number each, higher for better."""

    def __call__(self, images: UInt8[np.ndarray, "n h w"], prompts: Sequence[str]) -> Float[np.ndarray, " n"]:
        """Score every picture against its prompt."""
        ...


@dataclass(frozen=True, eq=False)
class ClassProbability:
    """Probability of the class that the caption names, by a classifier of planted pictures.

    Attributes:
        classifier: Fitted, with ``predict_proba``.
    """

    classifier: Any

    def __call__(self, images: UInt8[np.ndarray, "n h w"], prompts: Sequence[str]) -> Float[np.ndarray, " n"]:
        """Score every picture against its caption."""
        from pointland.benchmarks.mitigation.truth import class_of

        found = self.classifier.predict_proba(flat(images))
        places = {label: i for i, label in enumerate(self.classifier.classes_.tolist())}
        return np.array([found[i, places[class_of(prompt)]] for i, prompt in enumerate(prompts)], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What distances mean on one training set.

    Attributes:
        trained: The training pictures as vectors.
        scale: Mean distance of two of them.
        copy: Distance within which a picture counts as a copy.
    """

    trained: Float[np.ndarray, "n d"]
    scale: float
    copy: float

    def similarity(self, images: UInt8[np.ndarray, "b h w"]) -> Float[np.ndarray, " b"]:
        """Return the similarity to the nearest training picture."""
        found: Float[np.ndarray, " b"] = 1 - distances(flat(images), self.trained).min(1) / self.scale
        return found

    def copies(self, images: UInt8[np.ndarray, "b h w"], own: UInt8[np.ndarray, "b h w"]) -> Float[np.ndarray, " b"]:
        """Return 1 for every copy of its own picture, else 0."""
        return (rms(flat(images) - flat(own)) < self.copy).astype(np.float64)


def yardstick(truth: Truth) -> Yardstick:
    """Learn scale and copies from the training pictures and those never seen."""
    trained = flat(truth.trained)
    some = trained[np.random.default_rng(0).permutation(len(trained))[:400]]
    scale = float(distances(some, some)[np.triu_indices(len(some), 1)].mean())
    return Yardstick(trained, scale, float(np.quantile(distances(flat(truth.unseen), trained).min(1), COPY_RATE)))


def class_probability(fitting: Prompts) -> ClassProbability:
    """Fit the classifier."""
    from sklearn.linear_model import LogisticRegression

    return ClassProbability(LogisticRegression(C=0.1, max_iter=500).fit(flat(fitting.pictures), fitting.classes))


def diversity(images: UInt8[np.ndarray, "b h w"], prompts: Sequence[str], scale: float) -> float | None:
    """Return the mean distance of two pictures of one prompt, in units of ``scale``; ``None`` with one of each."""
    vectors = flat(images)
    found = [
        rms(vectors[i : i + 1] - vectors[j : j + 1])[0]
        for i in range(len(prompts))
        for j in range(i)
        if prompts[i] == prompts[j]
    ]
    return float(np.mean(found)) / scale if found else None


def distances(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """Return root mean square distances, each pair measured."""
    found: Float[np.ndarray, "n m"] = cdist(a, b) / a.shape[1] ** 0.5
    return found


def rms(difference: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Return the root mean square of every row."""
    found: Float[np.ndarray, " n"] = np.sqrt(np.square(difference).mean(1))
    return found
