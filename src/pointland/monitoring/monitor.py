r"""Following memorization during training: the LID of training pictures against that of pictures never trained on.

    monitor = pointland.Monitor(train=probe_images, held_out=held_out, every=1000)
    for step, batch in enumerate(batches):
        ...
        monitor(step, pipe)     # does nothing but every 1,000 steps; returns the numbers then

While a model generalizes, both have the same dimensions in its eyes, however well or badly it is trained. What it
begins to memorize loses them. The *gap* is how many dimensions training pictures have less than held-out ones of equal
complexity, :math:`\Delta` of the regression over all pictures

.. math:: \mathrm{LID} = a - \Delta \, [\text{trained on}] + b \log \mathrm{PNG} + \text{error},

with a 95 % interval that holds whatever the variances are (MacKinnon & White 1985, HC3). Pictures differ far more among
themselves than memorization changes them at first. So the monitor also asks what training pictures *lost* since the
last reading in the first half of the training so far, when the same picture's dimensions there are one more term: that
is seen several times earlier. It alarms when either is above 0 (Bonferroni) at a level that is spent over the readings,
the ``k``-th of them at ``rate / (k (k + 1))``: however long the training, about a share ``rate`` of trainings that
memorize nothing is ever alarmed. The recommended stop is the last step read before the alarm.

Fine-tuning? ``monitor.read(0, pipe)`` before the first step makes the base model what is compared with at first.

The denoising loss is the estimator (:mod:`pointland.lid.denoising_loss`): no gradient is taken, the draws of a picture
are the same at every reading, and neither the state of any random generator nor that of the modules changes, so a
training goes on as if it had not been looked at.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.scale import PAPER_SIGMA
from pointland.model import Model
from pointland.monitoring.probes import Given, Probes, check_apart, identity_of, probes
from pointland.monitoring.reading import Reading, fallen, first_alarm, reading_of, rounded
from pointland.monitoring.watched import device_of, evaluating, model_of

Log = Callable[[dict[str, float], int], object]


class Monitor:
    """Follow the LID of probe pictures along a training; call it at every step.

    Attributes:
        readings: What was read so far, oldest first.
    """

    def __init__(
        self,
        train: Given,
        held_out: Given,
        *,
        every: int = 1000,
        sigma: float = PAPER_SIGMA,
        n_draws: int = 2,
        rate: float = 0.05,
        captioned: bool = False,
        pipeline: Any = None,
        log: Log | None = None,
        record: Path | str | None = None,
        seed: int = 0,
        batch_size: int = 64,
    ) -> None:
        """Settle what is read, and how; nothing is opened before the first reading.

        Args:
            train: Training pictures to follow, some hundreds: a random sample, and those that are repeated or precious.
                A folder or another source as for :func:`pointland.audit`, a byte tensor ``(n, 3, h, w)``, or a list of
                Pillow images.
            held_out: As many pictures of the same kind that are never trained on.
            every: Steps between readings.
            sigma: Noise scale of the LID, in units of the space the model diffuses in; the nearest trained level is
                taken. The paper's by default.
            n_draws: Forward passes a picture.
            rate: Share of trainings without memorization that may ever alarm.
            captioned: Read under the pictures' captions, for models that are trained without dropping captions; the
                pictures must come from a source that has them.
            pipeline: A pipeline whose network is exchanged for the one that the monitor is called with, where it is
                called with a bare network: an average of the weights, or ``accelerator.unwrap_model(unet)``.
            log: Called with the numbers and the step at every reading: ``accelerator.log``, ``wandb.log``,
                ``mlflow.log_metrics``, or a function of your own.
            record: File of readings, one JSON object a line. One that is there is continued.
            seed: Of the draws.
            batch_size: Pictures in a forward pass.

        Raises:
            ValueError: If a setting is out of its range, or the record is of other settings or no record.
            FileNotFoundError: If there is no folder for the record.

        Cost:
            ``n_draws`` forward passes a picture every ``every`` steps, no gradient: with 256 pictures of each kind
            and 1,000 steps of 64 pictures, 0.5 % of the training's own passes.
        """
        if every < 1 or n_draws < 1 or batch_size < 1:
            raise ValueError(f"every, n_draws and batch_size must be positive, got {every}, {n_draws} and {batch_size}")
        if not sigma > 0 or not 0 < rate < 1:
            raise ValueError(f"sigma must be positive and rate between 0 and 1, got {sigma} and {rate}")
        self.every, self.log, self.pipeline, self.batch_size = every, log, pipeline, batch_size
        self.sigma, self.n_draws, self.rate, self.captioned, self.seed = sigma, n_draws, rate, captioned, seed
        self._given = train, held_out
        self._probes: tuple[Probes, Probes] | None = None
        self._pictures: str | None = None  # of the record's settings, or of what was read
        self._record = None if record is None else Path(record)
        if self._record is not None and not self._record.parent.is_dir():
            raise FileNotFoundError(f"{self._record.parent} does not exist; make the folder of the record first")
        self.readings: list[Reading] = [] if self._record is None else self._continued(self._record)

    @property
    def settings(self) -> dict[str, float | bool]:
        """What decides the numbers beside pictures and model; the first line of a record."""
        names = ("sigma", "n_draws", "rate", "captioned", "seed")
        return {name: getattr(self, name) for name in names}

    @property
    def alarmed(self) -> Reading | None:
        """The first reading that alarmed."""
        return first_alarm(self.readings)

    @property
    def recommended_step(self) -> int | None:
        """The last step read before the alarm."""
        alarmed = self.alarmed
        before = [reading.step for reading in self.readings if alarmed is not None and reading.step < alarmed.step]
        return before[-1] if before else None

    @property
    def unread(self) -> dict[str, str]:
        """Reasons by key for probe pictures that could not be read; nothing before the first reading."""
        return {key: reason for side in self._probes or () for key, reason in side.unread.items()}

    def lost(self, n: int = 10) -> list[tuple[str, float]]:
        """Return the training pictures that lost the most dimensions, with how many more than held-out ones did.

        Since the last reading's ``since``; where there is none, how many they have less than the held-out ones' mean.

        Raises:
            ValueError: If nothing was read by this monitor yet.
        """
        if self._probes is None:
            raise ValueError("nothing was read yet; call the monitor with a step and a model first")
        fell = fallen(self.readings)
        order = np.argsort(-fell, kind="stable")  # NaN last
        return [(self._probes[0].keys[i], float(fell[i])) for i in order[:n] if math.isfinite(fell[i])]

    def is_due(self, step: int) -> bool:
        """Whether a call at this step reads: at every ``every``-th step but 0, once."""
        return step > 0 and step % self.every == 0 and all(step > reading.step for reading in self.readings[-1:])

    def __call__(self, step: int, model: Any) -> Reading | None:
        """Read if it is due.

        Args:
            step: Of the training, as the optimizer counts.
            model: What is trained: a diffusers pipeline, a bare network if a ``pipeline`` was given, or a model of
                :func:`pointland.load` or :func:`pointland.models.from_module`. Wrappers of ``accelerate``, of parallel
                training and of ``torch.compile`` are looked through.

        Returns:
            The reading, or ``None`` where none was due.

        Raises:
            TypeError: If it is no model.
            ValueError: If the pictures cannot be read, are too few, are the same on both sides or not those of the
                record, or the model has no finite value for most of them.
        """
        return self.read(step, model) if self.is_due(step) else None

    def read(self, step: int, model: Any) -> Reading:
        """Read now, whether it is due or not; arguments and errors as for a call.

        A step that was read already, as step 0 was when a training starts again, is not read again.

        Raises:
            ValueError: If it lies before the last step read.
        """
        if (done := next((reading for reading in self.readings if reading.step == step), None)) is not None:
            return done
        if self.readings and step < self.readings[-1].step:
            raise ValueError(
                f"step {step} lies before the last one read, {self.readings[-1].step}; read in their order"
            )
        started = time.perf_counter()
        known = model_of(model, self.pipeline)
        with evaluating(known):
            if self._probes is None:
                sides = zip(("train", "held_out"), self._given, strict=True)
                train, held_out = (probes(name, given, known.codec, self.batch_size) for name, given in sides)
                check_apart(train, held_out)
                if self.captioned and not any(train.captions + held_out.captions):
                    raise ValueError("captioned, but no picture has a caption; give a source that has them")
                self._pictures = self._checked(identity_of(train, held_out))
                self._probes = train, held_out
            lids = tuple(rounded(self._lids(one, known)) for one in self._probes)
        complexity = np.concatenate([one.complexity for one in self._probes])
        reading = reading_of(
            step, (lids[0], lids[1]), complexity, self.readings, self.rate, seconds=time.perf_counter() - started
        )
        self._keep(reading)
        return reading

    def _checked(self, pictures: str) -> str:
        if self._pictures not in (None, pictures):
            raise ValueError("the record was made with other pictures; choose another file, or the same pictures")
        return pictures

    def _lids(self, followed: Probes, model: Model) -> NDArray[np.float64]:
        estimator = DenoisingLoss(model.levels.nearest(self.sigma).sigma, self.n_draws, self.seed)
        device, values = device_of(model, followed.x.device), []
        for at in range(0, len(followed.keys), self.batch_size):
            part = slice(at, at + self.batch_size)
            denoise = model.given(followed.captions[part]) if self.captioned else model.unconditional
            values.append(estimator(denoise, followed.x[part].to(device), followed.keys[part]).value)
        return torch.cat(values).cpu().double().numpy()  # in this order: some devices have no float64

    def _keep(self, reading: Reading) -> None:
        if self._record is not None:
            lines = (
                [asdict(reading)] if self.readings else [self.settings | {"pictures": self._pictures}, asdict(reading)]
            )
            with self._record.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(line) + "\n" for line in lines)
        self.readings.append(reading)
        if self.log is not None:
            self.log(reading.numbers, reading.step)

    def _continued(self, record: Path) -> "list[Reading]":
        """Read a record that is there; a last line that was cut off by a kill is left out, of the file too."""
        if not record.exists() or not record.stat().st_size:
            return []
        try:
            text = record.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            settings, *lines = [json.loads(line) for line in whole.splitlines()]
            found = [Reading(**line | {"lids": tuple(map(tuple, line["lids"]))}) for line in lines]
            if not isinstance(settings, dict):
                raise TypeError("its first line holds no settings")
            self._pictures = settings.pop("pictures", None)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{record.name} is no record of a monitor ({error}); choose another file") from error
        if settings != self.settings:
            differ = ", ".join(name for name, value in self.settings.items() if settings.get(name) != value)
            raise ValueError(f"{record.name} was made with another {differ}; choose another file, or the same settings")
        if whole != text:
            record.write_text(whole, encoding="utf-8")
        return found
