"""The suites by name. A suite is a module of this package with ``run(settings, say) -> Result`` and a line here.

Nothing heavy is imported before a suite is run, so that the command line can list them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pointland.benchmarks.lid.result import Result

Say = Callable[[str], None]


class NotInstalled(ValueError):  # noqa: N818  # it names a state, as NotConformant does
    """A suite needs a package that is not there; the message says how to get it."""


@dataclass(frozen=True)
class Suite:
    """A suite before it is imported.

    Attributes:
        about: One line.
        trains: Whether it has networks to train.
    """

    about: str
    trains: bool = False


SUITES = {
    "exact": Suite(
        "closed-form models, the choice of scale, and mixtures of planes and funnels in up to 3,072 dimensions"
    ),
    "paper": Suite("the models of the paper's Figures 1 and 3, with their exact scores"),
    "flipd": Suite(
        "unions of Kamkari et al. 2024 in up to 800 dimensions; trained networks on three of them", trains=True
    ),
    "yeats": Suite(
        "five manifolds of Yeats et al. 2025, 2,000 points each; trained networks on all of them", trains=True
    ),
    "skdim": Suite("the 24 manifolds of scikit-dimension, estimated from data"),
}


@dataclass(frozen=True)
class Settings:
    """How a suite is run.

    Attributes:
        trained: Train networks and measure at them; see ``Suite.trains``.
        seed: Of data, networks and draws.
        minutes: CPU minutes of training for each network; the suite's own default if ``None``.
        rotated: Turn the spaces of suite ``yeats`` at random, so that no coordinate is special.
        work: Where checkpoints are kept, from which training goes on; needed for ``trained`` only.
    """

    trained: bool = False
    seed: int = 0
    minutes: float | None = None
    rotated: bool = False
    work: Path | None = None


def run_suite(name: str, settings: Settings, say: Say) -> "Result":
    """Run one suite.

    Args:
        name: One of ``SUITES``.
        settings: How.
        say: Told one line about every step.

    Raises:
        ValueError: If there is no such suite, or a setting does not go with it.
    """
    check(name, settings)
    run: Callable[[Settings, Say], Result] = import_module(f"pointland.benchmarks.lid.{name}").run
    return run(settings, say)


def check(name: str, settings: Settings) -> None:
    """Raise ``ValueError`` if there is no such suite, or a setting does not go with it."""
    if name not in SUITES:
        raise ValueError(f"{name!r} is no suite; take one of {', '.join(SUITES)}")
    training = [key for key, suite in SUITES.items() if suite.trains]
    if settings.trained and name not in training:
        raise ValueError(f"suite {name} has no network to train; leave out --trained, or take {' or '.join(training)}")
    if settings.minutes is not None and not (settings.trained and settings.minutes > 0):
        raise ValueError(f"--minutes {settings.minutes:g} is CPU time of training: a positive number, with --trained")
    if settings.rotated and name != "yeats":
        raise ValueError(f"suite {name} cannot be turned; --rotated goes with yeats")
    if settings.trained and settings.work is None:
        raise ValueError("training needs a folder for its checkpoints; pass work")
