"""Confirming memorization by extraction: generate, compare, count."""

from pointland.extraction.extracting import extract
from pointland.extraction.sampling import WAYS, Way, sample

__all__ = ["WAYS", "Way", "extract", "sample"]
