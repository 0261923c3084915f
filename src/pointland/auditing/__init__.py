"""Auditing a model for memorized pictures."""

from pointland.auditing.directory import Run, read_run
from pointland.auditing.engine import Progress, audit

__all__ = ["Progress", "Run", "audit", "read_run"]
