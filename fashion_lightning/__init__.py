"""Train, inspect, evaluate and use a CNN on Fashion-MNIST: `python -m fashion_lightning.fit`."""
