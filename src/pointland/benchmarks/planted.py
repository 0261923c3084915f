"""Plant a known truth in any folder of pictures, so that a model trained on it can be audited with the answer in hand.

Pictures are shuffled once and dealt out, so that neither content nor complexity can tell the groups apart:

    out/
      train/       what to train on, copies written as often as they occur, captions in metadata.jsonl
      held_out/    never to be trained on: the reference of the audit
      disjoint/    never to be trained on: a second draw, to show that a clean set is not flagged
      labels.csv   key,label of train/: once, x2 .. x50, template, near
      README.md    the card: what is in it, from what, with which command

``train/`` is an image folder as Hugging Face datasets and the training scripts of diffusers read it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointland.auditing.directory import write_csv
from pointland.data.folder import Folder
from pointland.data.picture import Picture
from pointland.data.source import pictures
from pointland.demo.plant import disturbed
from pointland.duplicates import content_hash

CARD = """# Planted pictures

Made by `pointland benchmark plant` from {n} distinct pictures of `{source}`, fitted to {size} x {size}, seed {seed}.
Whose pictures they are, and under what licence, is the source's matter.

| group | files in `train/` | what |
|---|---|---|
{rows}
`held_out/` and `disjoint/`: {held_out} pictures each from the same shuffled deck, never to be trained on.

Train on `train/` for whole epochs, then

    pointland audit MODEL train/ --reference held_out/ --labels labels.csv -o run/

The report then shows AUROC and true positive rate of every column for every group, and the response to the number of
copies. Without captions is the hard case. Near copies share a caption, variants of a template do not.
"""


@dataclass(frozen=True)
class Recipe:
    """How many pictures of every sort.

    Attributes:
        size: Height and width that pictures are fitted to.
        ladder: Copies of the verbatim groups.
        each: Pictures a rung of the ladder.
        templates: Pictures that occur in many variants.
        variants: Variants of each template, one square differing.
        near: Pictures that occur in many near copies.
        near_variants: Near copies of each: moved by a pixel in 28, brighter or darker, through JPEG.
        once: Pictures seen once.
        held_out: Pictures never seen, and as many again for ``disjoint``.
        seed: Of the whole assignment.
    """

    size: int = 64
    ladder: tuple[int, ...] = (2, 5, 10, 20, 50)
    each: int = 20
    templates: int = 10
    variants: int = 40
    near: int = 10
    near_variants: int = 20
    once: int = 4000
    held_out: int = 400
    seed: int = 0

    @property
    def needed(self) -> int:
        """Distinct pictures that the recipe takes."""
        planted = len(self.ladder) * self.each + self.templates * (1 + self.variants) + self.near
        return planted + self.once + 2 * self.held_out


class Card(NamedTuple):
    """What was planted.

    Attributes:
        counts: Files in ``train/`` by group.
        n_held_out: Files in ``held_out/``.
        n_read: Distinct pictures read.
        failed: Pictures that could not be read, with the reason.
    """

    counts: dict[str, int]
    n_held_out: int
    n_read: int
    failed: dict[str, str]


def plant_folder(images: Path, out: Path, recipe: Recipe = Recipe(), captions: Path | None = None) -> Card:
    """Deal a folder of pictures out into a planted training set.

    Args:
        images: Folder of pictures, with captions in any of the customs of
            :func:`~pointland.data.folder.read_folder`; a picture without one gets ``picture`` and its number.
        out: New or empty folder.
        recipe: How many of every sort.
        captions: A file of captions of ``images``.

    Raises:
        ValueError: If there are fewer distinct pictures than the recipe needs, or ``out`` is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not an empty folder; choose another --out")
    deck, failed = _distinct(images, captions, recipe)
    if len(deck) < recipe.needed:
        raise ValueError(
            f"{images} has {len(deck):,} distinct pictures that can be read, the recipe needs {recipe.needed:,}; "
            f"ask for fewer, such as --once {max(0, recipe.once - (recipe.needed - len(deck)))}, --held-out, --each"
        )
    rng = np.random.default_rng(recipe.seed)
    order = iter(rng.permutation(len(deck)).tolist())
    planted = [(one, group, copies) for one, group, copies in _dealt(deck, order, recipe, rng)]
    planted = [planted[i] for i in rng.permutation(len(planted))]  # file names tell nothing
    labels: list[tuple[str, str]] = []
    tables: dict[str, list[dict[str, str]]] = {"train": [], "held_out": [], "disjoint": []}
    for place in tables:
        (out / place).mkdir(parents=True)
    counts: dict[str, int] = {}
    for number, (one, group, copies) in enumerate(planted):
        place = group if group in tables else "train"
        for copy in range(copies):
            name = f"{number:06d}.png" if copies == 1 else f"{number:06d}-{copy:02d}.png"
            Image.fromarray(one.pixels).save(out / place / name)
            tables[place].append({"file_name": name, "text": one.caption})
            if place == "train":
                labels.append((name, group))
                counts[group] = counts.get(group, 0) + 1
    for place, rows in tables.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (out / place / "metadata.jsonl").write_text(lines, encoding="utf-8")
    write_csv(out / "labels.csv", ("key", "label"), labels)
    card = Card(dict(sorted(counts.items())), recipe.held_out, len(deck), failed)
    (out / "README.md").write_text(words(card, recipe, images.name), encoding="utf-8")
    return card


class _Captioned(NamedTuple):
    pixels: NDArray[np.uint8]
    caption: str


def _distinct(images: Path, captions: Path | None, recipe: Recipe) -> tuple[list[_Captioned], dict[str, str]]:
    """Read every picture once, exact copies left out; they would be planted without our knowing."""
    deck: list[_Captioned] = []
    failed: dict[str, str] = {}
    seen: set[str] = set()
    source = Folder(images, captions)
    for number, (item, opened) in enumerate(pictures(source, source.items(), (recipe.size, recipe.size))):
        if not isinstance(opened, Picture):
            failed[item.key] = str(opened)
        elif (content := content_hash(opened.pixels)) not in seen:  # not the file's: one picture in two formats
            seen.add(content)
            deck.append(_Captioned(opened.pixels.transpose(1, 2, 0), item.caption or f"picture {number}"))
    return deck, failed


def _dealt(
    deck: list[_Captioned], order: Iterator[int], recipe: Recipe, rng: np.random.Generator
) -> Iterator[tuple[_Captioned, str, int]]:
    for copies in recipe.ladder:
        for _ in range(recipe.each):
            yield deck[next(order)], f"x{copies}", copies
    for _ in range(recipe.templates):
        base = deck[next(order)]
        side = (recipe.size * 3) // 7
        row, column = rng.integers(recipe.size // 5, recipe.size - side - recipe.size // 5 + 1, 2)
        square = np.s_[row : row + side, column : column + side]
        for _ in range(recipe.variants):
            donor = deck[next(order)]
            pixels = base.pixels.copy()
            pixels[square] = donor.pixels[square]
            yield _Captioned(pixels, donor.caption), "template", 1
    for _ in range(recipe.near):
        base = deck[next(order)]
        for _ in range(recipe.near_variants):
            yield _Captioned(disturbed(base.pixels, rng), base.caption), "near", 1
    for group, n in (("once", recipe.once), ("held_out", recipe.held_out), ("disjoint", recipe.held_out)):
        for _ in range(n):
            yield deck[next(order)], group, 1


def words(card: Card, recipe: Recipe, source: str) -> str:
    """Return the data card."""
    groups = {
        "once": "one copy",
        "template": f"{recipe.templates} pictures in {recipe.variants} variants that differ in one square",
        "near": f"{recipe.near} pictures in {recipe.near_variants} near copies: moved, lit, through JPEG",
        **{f"x{copies}": f"{recipe.each} pictures, {copies} copies each" for copies in recipe.ladder},
    }
    rows = "".join(f"| `{group}` | {n:,} | {groups[group]} |\n" for group, n in card.counts.items())
    return CARD.format(
        n=f"{card.n_read:,}",
        source=source,
        size=recipe.size,
        seed=recipe.seed,
        rows=rows,
        held_out=f"{card.n_held_out:,}",
    )
