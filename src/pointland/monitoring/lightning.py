"""The monitor as a callback of Lightning's ``Trainer``."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from pointland.monitoring.monitor import Monitor


def callback(monitor: Monitor, model_of_module: Callable[[Any], Any]) -> Any:
    """Return a callback that calls the monitor after every optimizer step, on the first process only.

    What is read goes to the module's loggers as well. The trainer is not stopped; a callback of your own can, by
    ``monitor.alarmed``.

    Args:
        monitor: The monitor.
        model_of_module: What it is called with, from the ``LightningModule``: ``lambda module: module.pipe``.

    Raises:
        ImportError: If neither ``lightning`` nor ``pytorch_lightning`` is installed.
    """
    lightning = _lightning()

    class Following(lightning.Callback):  # type: ignore[name-defined,misc]  # there only where Lightning is
        """Calls the monitor."""

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            """Read if it is due; under gradient accumulation ``global_step`` repeats, which reads once."""
            if trainer.is_global_zero and monitor.is_due(trainer.global_step):
                reading = monitor.read(trainer.global_step, model_of_module(module))
                for logger in trainer.loggers:
                    logger.log_metrics(reading.numbers, step=reading.step)

    return Following()


def _lightning() -> Any:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return import_module(name)
        except ImportError:
            continue
    raise ImportError("Lightning is not installed: pip install lightning")
