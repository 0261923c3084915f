"""Following memorization during training."""

from pointland.monitoring.monitor import Monitor, Reading

__all__ = ["Monitor", "Reading"]
