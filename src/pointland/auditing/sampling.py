"""Reading a few pictures of an audit, before it is settled or to see what it would cost."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pointland.auditing import local
from pointland.auditing.tasks import REQUEST, Task, Tasks
from pointland.data.picture import Picture, UnreadablePicture
from pointland.data.readers import Readers, Request
from pointland.data.source import in_order
from pointland.model import Codec


def sample(
    tasks: Tasks, size: tuple[int, int], order: Sequence[int], n: int, *, readers: int | None = None
) -> list[tuple[Task, Picture]]:
    """Return the first ``n`` pictures, in this order of the tasks, that can be read; fewer if there are no more.

    They are read as the audit reads, by processes of their own, and those of one archive one after another.

    Args:
        tasks: All pictures.
        size: Height and width that they are fitted to.
        order: Which of them to try, the first first.
        n: How many are wanted.
        readers: Processes; as many as an audit has by default.

    Raises:
        ValueError: If none can be read.
    """
    found: list[tuple[Task, Picture]] = []
    why, start = "", 0
    sources = {str(role): source for role, source in tasks.sources.items()}
    with Readers(sources, size, local.READERS if readers is None else readers) as reading:
        while len(found) < n and start < len(order):
            some = order[start : start + n - len(found)]
            start += len(some)
            wanted = {index: tasks[index] for index in some}
            places = sorted(some, key=lambda index: (wanted[index].role, in_order(wanted[index].item.place)))
            opened: dict[int, Picture | UnreadablePicture] = {}
            for role in tasks.sources:
                mine = [index for index in places if wanted[index].role == role]
                parts = [mine[at : at + REQUEST] for at in range(0, len(mine), REQUEST)]
                read = reading.read(Request(role, [wanted[index].item for index in part]) for part in parts)
                for part, pictures in zip(parts, read, strict=True):
                    opened.update(zip(part, (picture for _, picture in pictures), strict=True))
            for index in some:
                picture = opened[index]
                if isinstance(picture, Picture):
                    found.append((wanted[index], picture))
                else:
                    why = f"{wanted[index].item.key}: {picture}"
    if not found:
        raise ValueError(f"none of the {len(order)} pictures can be read; the last reason was {why}")
    return found


def sample_at_random(
    tasks: Tasks, size: tuple[int, int], n: int, seed: int, *, among: int | None = None, readers: int | None = None
) -> list[Picture]:
    """Return a random sample of the pictures that can be read, of the first ``among`` only if that is given.

    The reference's pictures are the last ones. Errors as in :func:`sample`.
    """
    order = np.random.default_rng(seed).permutation(len(tasks) if among is None else among).tolist()
    return [picture for _, picture in sample(tasks, size, order, n, readers=readers)]


def encode(codec: Codec, found: Sequence[Picture], batch_size: int) -> Float[Tensor, "n *event"]:
    """Return the points of pictures in model space, encoded so many at a time; NaN for one that overflows."""
    images = torch.from_numpy(np.stack([picture.pixels for picture in found]))
    return torch.cat([codec.encode(part) for part in torch.split(images, batch_size)])
