"""Auditing a model for memorized pictures."""

from pointland.audit.directory import Run, read_run
from pointland.audit.engine import Progress, audit

__all__ = ["Progress", "Run", "audit", "read_run"]
