"""Following memorization during training."""

from pointland.monitoring.monitor import Monitor
from pointland.monitoring.reading import Reading

__all__ = ["Monitor", "Reading"]
