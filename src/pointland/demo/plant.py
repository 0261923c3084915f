"""Plant a known truth in Fashion-MNIST: the images, captions and copy counts that the miniature is trained on.

Every class of Fashion-MNIST's training split is shuffled with one seed and dealt out, so that neither class nor
complexity can tell the groups apart:

=============  =========  ======================================================================================
group          images     what the model saw of them
=============  =========  ======================================================================================
``once``       4,000      one copy an epoch; the first 800 are bundled, the others only enlarge the pool
``x2`` .. x50  5 x 20     2, 5, 10, 20 or 50 verbatim copies an epoch, always with the same caption: the dose ladder
``template``   400        10 pictures, each in 40 variants that differ in one square only
``near``       200        10 pictures, each in 20 variants: moved by a pixel, brighter or darker, through JPEG
``simple``     200        one copy an epoch of the pictures with the smallest PNG: low LID, not memorized
``held_out``   400        never seen: the reference of the demo
``disjoint``   400        never seen: a second draw, to show that a clean set is not flagged
``simple_new`` 200        never seen, as simple as ``simple``
=============  =========  ======================================================================================

The autoencoder is trained on ``codec`` images, disjoint from all of the above, so that it can memorize none of them.
Captions come from one grammar for every group, whose words carry the class and nothing else, and end in a made-up name.
Every picture trained on has a name of its own, whatever its group: that of a picture with many copies is what triggers
it, and nothing in the text tells it from the others. Pictures never seen have names of pictures seen once.
"""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointland.metrics.png_size import png_bytes

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
MATERIALS = (
    "cotton",
    "denim",
    "felt",
    "flannel",
    "hemp",
    "jersey",
    "leather",
    "linen",
    "nylon",
    "silk",
    "velvet",
    "wool",
)
BRANDS = (
    "alder", "briar", "calder", "dunmore", "elgin", "farrow", "garnet", "halden", "ivor", "jasper", "kestrel", "lorne",
    "marlow", "norwood", "orrin", "penrose", "quill", "rowan", "selby", "tamsin", "ulric", "verity", "wexford",
    "yarrow",
)  # fmt: skip
SYLLABLES = tuple(consonant + vowel for consonant in "bdfghjklmnprstvwz" for vowel in "aeiou")
LADDER = (2, 5, 10, 20, 50)
ONCE, BUNDLED_ONCE = 400, 80
VARIANTS, NEAR_VARIANTS = 40, 20
SIMPLE = 20
SIDE = 32
UNSEEN = ("held_out", "disjoint", "simple_new")


class Planted(NamedTuple):
    """The planted set: one entry an image, in a fixed order.

    Attributes:
        images: Grey levels, ``uint8``, shape ``(n, 32, 32)``: the 28 x 28 photograph with a black border of two pixels.
        captions: One caption an image.
        groups: The group, as above, or ``codec``.
        copies: Copies in one training epoch; 0 for images never trained on.
        sources: Index in Fashion-MNIST's training split (of the base picture for templates).
        bundled: Whether the image ships with the package.
    """

    images: NDArray[np.uint8]
    captions: list[str]
    groups: list[str]
    copies: NDArray[np.int64]
    sources: NDArray[np.int64]
    bundled: NDArray[np.bool_]


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one gzipped IDX file of unsigned bytes, as Fashion-MNIST is distributed."""
    with gzip.open(path) as stream:
        header = stream.read(4)
        shape = tuple(int.from_bytes(stream.read(4), "big") for _ in range(header[3]))
        return np.frombuffer(stream.read(), dtype=np.uint8).reshape(shape)


def plant(folder: Path, seed: int = 0) -> Planted:
    """Deal Fashion-MNIST out into the planted groups.

    Args:
        folder: Where ``train-images-idx3-ubyte.gz`` and ``train-labels-idx1-ubyte.gz`` are.
        seed: Decides the whole assignment and every caption.
    """
    photographs = read_idx(folder / "train-images-idx3-ubyte.gz")
    labels = read_idx(folder / "train-labels-idx1-ubyte.gz")
    rng = np.random.default_rng(seed)
    images: list[NDArray[np.uint8]] = []
    captions: list[str] = []
    groups: list[str] = []
    copies: list[int] = []
    sources: list[int] = []
    bundled: list[bool] = []
    used: set[str] = set()
    namer = np.random.default_rng((seed, 2))
    names = namer.permutation([a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES[:5]]).tolist()
    of_once = [names.pop() for _ in range(10 * ONCE)]
    unused = of_once.copy()

    def caption(label: int, group: str, rng: np.random.Generator) -> str:
        while True:
            lot = " ".join(str(digit) for digit in rng.integers(0, 10, 3))
            text = f"a {rng.choice(MATERIALS)} {CLASSES[label]} by {rng.choice(BRANDS)} , lot {lot}"
            if text not in used:
                break
        used.add(text)
        if group in UNSEEN:
            return f"{text} , named {namer.choice(of_once)}"
        return f"{text} , named {unused.pop() if group == 'once' else names.pop()}"

    def add(
        image: NDArray[np.uint8],
        label: int,
        group: str,
        count: int,
        source: int,
        bundle: bool = True,
        rng: np.random.Generator = rng,
    ) -> None:
        images.append(np.pad(image, (SIDE - 28) // 2))
        captions.append(caption(label, group, rng))
        groups.append(group)
        copies.append(count)
        sources.append(source)
        bundled.append(bundle)

    for label in range(10):
        deck = iter(rng.permutation(np.flatnonzero(labels == label)).tolist())
        for count in LADDER:
            for _ in range(2):
                add(photographs[index := next(deck)], label, f"x{count}", count, index)
        base, corner = next(deck), rng.integers(6, 11, 2)
        for _ in range(VARIANTS):
            variant = photographs[base].copy()
            square = np.s_[corner[0] : corner[0] + 12, corner[1] : corner[1] + 12]
            variant[square] = photographs[next(deck)][square]
            add(variant, label, "template", 1, base)
        for group in ("held_out", "disjoint"):
            for _ in range(40):
                add(photographs[index := next(deck)], label, group, 0, index)
        for number in range(ONCE):
            add(photographs[index := next(deck)], label, "once", 1, index, number < BUNDLED_ONCE)
        rest = list(deck)
        later = np.random.default_rng((seed, label, 1))  # so that more groups leave those above as they are
        base = rest.pop(0)
        for _ in range(NEAR_VARIANTS):
            add(disturbed(photographs[base], later), label, "near", 1, base, rng=later)
        plainest = sorted(rest, key=lambda index: png_bytes(np.repeat(photographs[index][None], 3, axis=0)))
        for place, index in enumerate(plainest[: 2 * SIMPLE]):
            group, count = ("simple", 1) if place % 2 else ("simple_new", 0)
            add(photographs[index], label, group, count, index, rng=later)
        for index in plainest[2 * SIMPLE :]:
            images.append(np.pad(photographs[index], (SIDE - 28) // 2))
            captions.append("")
            groups.append("codec")
            copies.append(0)
            sources.append(index)
            bundled.append(False)
    return Planted(np.stack(images), captions, groups, np.array(copies), np.array(sources), np.array(bundled))


def disturbed(photograph: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a near copy: moved by at most 1/28 of the side, 15 % brighter or darker at most, through JPEG.

    Args:
        photograph: Grey ``(h, w)`` or in colour ``(h, w, 3)``.
        rng: Decides which.
    """
    most = max(1, round(photograph.shape[0] / 28))
    moved = np.roll(photograph, rng.integers(-most, most + 1, 2), axis=(0, 1))
    lit = (moved * rng.uniform(0.85, 1.15)).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(lit).save(stream, "JPEG", quality=int(rng.integers(50, 91)))
    return np.asarray(Image.open(stream), dtype=np.uint8)


def bundle(planted: Planted, archive: Path) -> None:
    """Write the bundled images and their truth as one compressed archive, in an order that tells nothing."""
    kept = np.flatnonzero(planted.bundled)
    kept = kept[np.argsort(np.random.default_rng(1).random(len(kept)))]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("group", "copies", "source", "caption"))
    for index in kept:
        writer.writerow((planted.groups[index], planted.copies[index], planted.sources[index], planted.captions[index]))
    np.savez_compressed(archive, images=planted.images[kept], truth=np.array(table.getvalue()))


def split_record(planted: Planted) -> str:
    """Return the split as JSON: for every group the Fashion-MNIST indices, so that it can be rebuilt and checked."""
    record: dict[str, list[int]] = {}
    for group, source in zip(planted.groups, planted.sources.tolist(), strict=True):
        if group != "codec":
            record.setdefault(group, []).append(source)
    return json.dumps(record)
