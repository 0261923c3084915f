"""The oracle: scikit-dimension, an independent implementation."""

import warnings
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def skdim() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies, at import
        module = pytest.importorskip("skdim", reason="scikit-dimension, the oracle, is not installed")
    assert isinstance(module, ModuleType)
    return module
