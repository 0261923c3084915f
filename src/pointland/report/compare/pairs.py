"""Which pictures of two runs are the same: by content first, then by name.

Files with the same bytes are the same picture, whatever they are called. A file that was saved again has other bytes:
under the same name it is taken for the same picture if it looks the same too (perceptual hashes within four bits of
64). Names alone say nothing, since half of all folders hold a ``00001.png``.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointland.report.items import Items

Places = NDArray[np.int64]

NEAR = 4


class Pairs(NamedTuple):
    """Places among the pictures of A and of B, in the order of A.

    Attributes:
        a: Place in A of every pair.
        b: Place in B of every pair.
        by_name: Whether the bytes differ and only name and looks agree.
        only_a: Places in A without a partner.
        only_b: Places in B without a partner.
        replaced: Places in A without a partner whose name is in B for another picture.
    """

    a: Places
    b: Places
    by_name: NDArray[np.bool_]
    only_a: Places
    only_b: Places
    replaced: Places


def match(a: Items, b: Items) -> Pairs:
    """Pair the pictures of two runs, each with one other at most; of several copies those with the same name first."""
    keys_a, keys_b = a.texts("key"), b.texts("key")
    free: set[int] = set(range(len(b)))
    partner: dict[int, int] = {}
    shas_a, shas_b = a.texts("sha256"), b.texts("sha256")

    def pair(tie: Callable[[int], object], index: Callable[[int], object]) -> None:
        there: dict[object, list[int]] = {}
        for j in sorted(free, reverse=True):
            there.setdefault(index(j), []).append(j)
        for i in range(len(a)):
            if i not in partner and (waiting := there.get(tie(i))):
                partner[i] = waiting.pop()
                free.discard(partner[i])

    pair(lambda i: (shas_a[i], keys_a[i]), lambda j: (shas_b[j], keys_b[j]))
    pair(lambda i: shas_a[i], lambda j: shas_b[j])
    by_content = set(partner)
    looks_a, looks_b = a.texts("perceptual_hash"), b.texts("perceptual_hash")
    named = {keys_b[j]: j for j in sorted(free)}
    replaced = []
    for i in range(len(a)):
        if i in partner or (j := named.get(keys_a[i])) is None:
            continue
        if _alike(looks_a[i], looks_b[j]):
            partner[i] = j
            free.discard(j)
        else:
            replaced.append(i)
    first = sorted(partner)
    return Pairs(
        _places(first),
        _places([partner[i] for i in first]),
        np.array([i not in by_content for i in first], dtype=np.bool_),
        _places([i for i in range(len(a)) if i not in partner]),
        _places(sorted(free)),
        _places(replaced),
    )


def _alike(a: str | None, b: str | None) -> bool:
    try:
        return a is not None and b is not None and (int(a, 16) ^ int(b, 16)).bit_count() <= NEAR
    except ValueError:
        return False


def _places(found: list[int]) -> Places:
    return np.array(found, dtype=np.int64)
