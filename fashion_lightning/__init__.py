"""Train, inspect, evaluate and use a CNN on Fashion-MNIST; `python -m fashion_lightning` lists the commands."""

import importlib
from typing import Any

_MODULES = {"FashionCNN": "networks", "FashionClassifier": "classifier", "FashionMNISTDataModule": "data.module"}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """The public classes, imported at first use, so that `--help` does not wait for torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
