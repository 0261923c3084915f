"""The engine of one machine: reading in processes, scoring here, writing behind."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from pointland.auditing.batches import BatchSize
from pointland.auditing.scoring import Scored, Scorer
from pointland.auditing.tasks import Task, Tasks
from pointland.data.picture import Picture, UnreadablePicture
from pointland.data.readers import Readers
from pointland.metrics.metric import Column, Metric
from pointland.model import Model
from pointland.models.diffusers.binding import remembering
from pointland.models.precision import in_float32

READERS = 2


class Work(NamedTuple):
    """What an engine is to do.

    Attributes:
        model: The model.
        metrics: What to measure.
        columns: That they fill for this model.
        tasks: All pictures.
        shards: Those of them that are asked for.
        batch_size: Pictures in one batch, or ``"auto"``.
        device: Where the model's points are.
        seed: Of every draw.
        tick: To be called with how many pictures were dealt with.
        screen: Audited pictures above this value of the screen get no closer look.
        remember: Keep what captions become, since they come again.
    """

    model: Model
    metrics: Sequence[Metric]
    columns: Sequence[Column]
    tasks: Tasks
    shards: Sequence[int]
    batch_size: int | Literal["auto"]
    device: str
    seed: int
    tick: Callable[[int], None]
    screen: float | None = None
    remember: bool = False


Engine = Callable[[Work], Generator[Scored]]  # yields every shard once, in any order


@dataclass(frozen=True)
class Local:
    """Score in this process.

    Attributes:
        readers: Processes that read and decode; 0 does it in threads of this one.
    """

    readers: int | None = None

    def __call__(self, work: Work) -> Generator[Scored]:
        """Yield the shards in order."""
        tasks, scorer = work.tasks, scorer_of(work, work.model)
        n = READERS if self.readers is None else self.readers
        with Readers(
            {str(role): source for role, source in tasks.sources.items()}, work.model.codec.size, n
        ) as readers:
            opened = readers.read(request for shard in work.shards for _, request in tasks.requests(shard))

            def pictures(shard: int) -> Iterator[tuple[Task, Picture | UnreadablePicture]]:
                for role, _ in tasks.requests(shard):
                    yield from ((Task(item, role), picture) for item, picture in next(opened))

            for shard in work.shards:
                yield scorer.shard(shard, pictures(shard), work.tick)


def scorer_of(work: Work, model: Model) -> Scorer:
    """Return what scores the shards of a piece of work, by its model or a copy of it."""
    return Scorer(
        remembering(model) if work.remember else model,
        work.metrics,
        work.columns,
        batch=BatchSize(work.batch_size, work.device),
        seed=work.seed,
        screen=work.screen,
        wide=cache(lambda: in_float32(model)),
    )
