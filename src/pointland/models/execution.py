"""How a network is called: as it is, compiled, in the channels-last memory format, under autocast.

A compiled network and one in channels-last order give the same numbers up to rounding in the networks' dtype. What is
compiled are the calls without gradients, most of an audit's; Jacobian products run as they are. Autocast
runs convolutions and matrix products in half precision and keeps float32 where it matters most, in norms and sums; what
comes out is combined with ``x`` in float32 as always.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Execution:
    """How a network is called.

    Attributes:
        autocast: Half precision in which it runs under ``torch.autocast``, if any.
        compiled: Whether ``torch.compile`` was asked for.
        channels_last: Whether convolutions' weights were put into that memory format.
    """

    autocast: torch.dtype | None = None
    compiled: bool = False
    channels_last: bool = False

    @property
    def record(self) -> dict[str, str]:
        """What is not as it is by default, for the record of a model."""
        cast = {} if self.autocast is None else {"autocast": str(self.autocast).removeprefix("torch.")}
        named = {"compiled": self.compiled, "channels_last": self.channels_last}
        return cast | {name: "yes" for name, chosen in named.items() if chosen}

    @contextmanager
    def calling(self, device: torch.device) -> Iterator[None]:
        """Call the network inside this ``with`` block."""
        with ExitStack() as stack:
            if self.compiled and torch.is_grad_enabled():
                # several products on one graph are an error of compiled backward passes, unless a process-wide flag
                # says otherwise; so what records gradients is not compiled
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            if self.autocast is not None:
                stack.enter_context(torch.autocast(device.type, self.autocast))
            yield


PLAIN = Execution()
"""As it is."""


def prepared(network: nn.Module, modules: Iterable[nn.Module], execution: Execution) -> None:
    """Compile a network and put modules' weights into channels-last order, in place.

    Raises:
        ValueError: If there is no compiler for the network's device, or autocast is asked for something else than half
            precision.
    """
    if execution.autocast not in (None, torch.bfloat16, torch.float16):
        raise ValueError(f"autocast runs in bfloat16 or float16, not {execution.autocast}")
    if execution.channels_last:
        for module in modules:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs want a tensor with it
    if execution.compiled:
        _check_compiler(next(network.parameters()).device)
        network.compile(dynamic=True)


def _check_compiler(device: torch.device) -> None:
    """Compile the smallest function there is, so that what is missing is said before an audit begins."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=device))
    except Exception as error:  # torch names no type that all its compilers' failures have
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        needed = "Triton" if device.type == "cuda" else "a C++ compiler"
        raise ValueError(
            f"torch.compile does not work here on {device.type} ({reason}); it needs {needed}; leave compile out"
        ) from error
