r"""Figure 4: what memorized pictures look like in every metric, against pictures that are not (section 3, appendix A).

The paper measures 86 verbatim-memorized LAION pictures of Stable Diffusion v1.5 against 2,000 of LAION-Aesthetics,
2,000 of COCO and 251 of Tuxemon, and shows densities. Here is the same for any model and any folders, at two settings,
with what densities do not say: AUROC and true positive rate at 1 % false positives with intervals, the floors that
need no model (PNG size, caption text), and the same again without near-duplicates among the memorized.

=================  =================================================  ================================================
                   as published (appendix A)                          as in the authors' public configuration
=================  =================================================  ================================================
FLIPD              time 0.1, one probe                                time 0.01, one probe
guidance norm      three Euler steps to time 0.01                     ten steps to time 0.5
clock              of the SDE of Song et al., linear                  the network's own steps
                   :math:`\beta` from 0.1 to 20
=================  =================================================  ================================================

For Stable Diffusion both clocks nearly agree at time 0.1 (sigma 0.340 and 0.342); at 0.01 they do not (0.045 and
0.098). Which one the authors meant there is not published. PNG size is taken of the picture as the model sees it.
Beside both stands the default signal of an audit, the denoising loss, at the published sigma.

Every folder is an audit of its own (``out/rows/``), so an interrupted run goes on where it was.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from pointland.auditing.engine import Progress, audit
from pointland.auditing.tasks import tasks_of
from pointland.experiments.figure_4.judge import MEMORIZED, judge
from pointland.experiments.figure_4.result import Result
from pointland.experiments.figure_4.settings import metrics_of, settings_of
from pointland.model import Model


def run(
    model: Model,
    memorized: Path | str,
    negatives: Sequence[Path | str],
    *,
    out: Path | str,
    n_draws: int = 8,
    n_bootstrap: int = 1000,
    batch_size: int = 16,
    seed: int = 0,
    progress: Callable[[str, Progress], None] | None = None,
    command: str = "",
) -> Result:
    """Measure the memorized pictures and the others, or continue where an interrupted run stopped.

    Args:
        model: The model; without captions the conditional columns are left out.
        memorized: Folder of pictures known to be memorized, with their captions as
            :func:`~pointland.data.folder.read_folder` finds them.
        negatives: Folders of pictures that are not.
        out: Where the rows go.
        n_draws: Draws of the denoising loss.
        n_bootstrap: Resamples behind every interval.
        batch_size: Pictures in one batch.
        seed: Of every draw.
        progress: Called with the folder's name after every batch.
        command: What the user typed, for the record.

    Raises:
        FileNotFoundError: If a folder is not there.
        ValueError: If there are no negatives, a folder is given twice, or none of its pictures can be read.
    """
    places = folders(memorized, negatives)
    for place in places.values():  # before the network: a missing folder fails at once
        tasks_of(place)
    metrics = metrics_of(model, n_draws=n_draws, seed=seed)
    runs = {}
    for number, (group, place) in enumerate(places.items()):
        runs[group] = audit(
            model,
            place,
            out=Path(out) / "rows" / (f"{number}-{MEMORIZED}" if number == 0 else f"{number}-negatives"),
            sigma=settings_of(model)[0].sigma,
            metrics=metrics,
            decide_by="png_bytes",
            batch_size=batch_size,
            seed=seed,
            progress=None if progress is None else lambda state, group=group: progress(group, state),  # type: ignore[misc]
            command=command,
        )
        if not runs[group].rows.num_rows:
            raise ValueError(f"none of the pictures in {place} can be read; {out}/rows has the reasons")
    return judge(model, runs, metrics, n_draws=n_draws, n_bootstrap=n_bootstrap, seed=seed)


def folders(memorized: Path | str, negatives: Sequence[Path | str]) -> dict[str, Path]:
    """Return the folders by a name for each, the memorized first.

    Raises:
        ValueError: If there are no negatives, or a folder is given twice.
    """
    if not negatives:
        raise ValueError("no negatives: name at least one folder of pictures that are not memorized")
    places = [Path(place) for place in (memorized, *negatives)]
    if len({place.resolve() for place in places}) < len(places):
        raise ValueError(f"a folder is given twice among {', '.join(map(str, places))}; memorized and not must differ")
    named: dict[str, Path] = {MEMORIZED: places[0]}
    for place in places[1:]:
        name = place.resolve().name or "negatives"
        same = sum(key == name or key.startswith(f"{name} (") for key in named)
        named[f"{name} ({same + 1})" if same else name] = place
    return named
