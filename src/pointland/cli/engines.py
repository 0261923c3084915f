"""Where an audit computes: the engine that the command line asks for."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal, NamedTuple, get_args

from pointland.auditing.local import Engine
from pointland.model import Model

EngineName = Literal["local", "ray"]


class Place(NamedTuple):
    """What the options say.

    Attributes:
        engine: ``local`` or ``ray``.
        readers: Processes that read and decode, of each worker.
        workers: Of Ray.
        address: Of a Ray cluster that runs.
        gpus: GPUs of a worker of Ray.
    """

    engine: str = "local"
    readers: int | None = None
    workers: int | None = None
    address: str | None = None
    gpus: float | None = None


def check_place(place: Place) -> None:
    """Raise ``ValueError`` if there is no such engine here, or an option is not of it."""
    if place.engine not in get_args(EngineName):
        raise ValueError(f"--engine {place.engine!r} is not one of {', '.join(get_args(EngineName))}")
    if place.engine == "ray" and find_spec("ray") is None:
        raise ValueError("--engine ray needs the package ray: pip install 'pointland[ray]'")
    given = {"--workers": place.workers, "--address": place.address, "--gpus": place.gpus}
    if place.engine == "local" and (names := [name for name, value in given.items() if value is not None]):
        raise ValueError(f"{', '.join(names)} is of Ray; add --engine ray")


def engine_at(place: Place, load: Callable[[], Model], load_reference: Callable[[], Model] | None) -> Engine:
    """Return the engine; workers elsewhere load the models themselves."""
    if place.engine == "local":
        from pointland.auditing.local import Local

        return Local(place.readers)
    from pointland.auditing.ray_engine import Ray

    defaults = Ray()
    return Ray(
        workers=place.workers or defaults.workers,
        address=place.address,
        gpus=place.gpus,
        readers=defaults.readers if place.readers is None else place.readers,
        load=load,
        load_reference=load_reference,
    )


def without_number(device: str | None) -> str | None:
    """Return ``cuda`` for ``cuda:1``: a worker of Ray sees its own devices only, from 0."""
    return None if device is None else device.partition(":")[0]
