"""Train, inspect, evaluate and use a CNN on Fashion-MNIST; the main command is `python -m fashion_lightning.fit`."""

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data import FashionMNISTDataModule
from fashion_lightning.networks import FashionCNN

__all__ = ["FashionCNN", "FashionClassifier", "FashionMNISTDataModule"]
