"""How many pictures go through the network together: given, or found, and halved when memory runs out."""

import gc
from typing import Literal

import torch

FIRST = 16
LARGEST = 256
GAIN = 1.05  # doubling must make pictures this much faster to be kept
ALLOCATION = (
    "can't allocate memory",
    "out of memory",
    "ALLOC_FAILED",
)  # of torch's allocators without an error of their own


class BatchSize:
    """A batch size that learns.

    ``"auto"`` stays at 16 on a CPU. On an accelerator it doubles after each batch that went well, as long as they fit
    and that makes pictures faster. Out of memory it halves for good, whoever chose it.

    Args:
        asked: Pictures, or ``"auto"``.
        device: Where the network is.
    """

    def __init__(self, asked: int | Literal["auto"], device: str) -> None:
        self.size = FIRST if asked == "auto" else asked
        self.grows = asked == "auto" and not device.startswith("cpu")
        self._seconds_each = float("inf")

    def ran(self, n: int, seconds: float) -> None:
        """Learn from a batch that went well."""
        if not self.grows or n != self.size:
            return
        each = seconds / n
        if self._seconds_each < GAIN * each:  # no faster than half of it
            self.size, self.grows = max(1, self.size // 2), False
        else:
            self._seconds_each = each
            self.size = min(2 * self.size, LARGEST)
            self.grows = self.size > n

    def ran_out(self, n: int, error: BaseException) -> None:
        """Learn from a batch of ``n`` that did not fit.

        Raises:
            ValueError: If it was a single picture.
        """
        if n == 1:
            raise ValueError(
                "out of memory with one picture at a time; load the model with a smaller --dtype, give fewer "
                "--n-probes, or use a device with more memory"
            ) from error
        self.size, self.grows = max(1, min(self.size, n) // 2), False
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether a failure is want of memory on a device."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in ALLOCATION)
    )
