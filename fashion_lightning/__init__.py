"""Train, inspect, evaluate and use a CNN on Fashion-MNIST; `python -m fashion_lightning` says how."""

import importlib
from typing import Any

_HOMES = {"FashionCNN": "networks", "FashionClassifier": "classifier", "FashionMNISTDataModule": "data"}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """The public classes, imported when first used: `--help` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
