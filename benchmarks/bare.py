"""The same fit as a bare PyTorch loop over our loaders, network and settings: the floor for what Lightning costs.

Command: python -m benchmarks.bare [--epochs N] [--data_dir DIR]
Prints one line of JSON: fit_seconds (training and validation), validation_seconds, step_flop and accuracies.
"""

import argparse
import json
import time

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.command_line.build import tune_process
from fashion_lightning.data.module import FashionMNISTDataModule, normalize


@torch.inference_mode()
def accuracy(network, loader):
    network.eval()
    correct = sum((network(normalize(images)).argmax(1) == labels).sum() for images, labels in loader)
    network.train()
    return int(correct) / sum(len(batch) for batch in loader.sampler)


def main(epochs, data_dir):
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    tune_process()
    data = FashionMNISTDataModule(data_dir)
    data.setup()
    model = FashionClassifier()
    configured = model.configure_optimizers()
    network, optimizer, schedule = model.network, configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    train_loader, val_loader = data.train_dataloader(), data.val_dataloader()
    validation_seconds = 0.0
    start = time.perf_counter()
    for _ in range(epochs):
        for images, labels in train_loader:  # every epoch in the same order; it is the time that counts here
            loss = F.cross_entropy(network(normalize(images)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        validation_start = time.perf_counter()
        accuracy(network, val_loader)
        validation_seconds += time.perf_counter() - validation_start
    fit_seconds = time.perf_counter() - start

    accuracies = {split: accuracy(network, data.evaluation_dataloader(split)) for split in data.splits}
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(network(normalize(images)), labels).backward()
    seconds = {"fit_seconds": fit_seconds, "validation_seconds": validation_seconds}
    print(json.dumps({**seconds, "step_flop": counter.get_total_flops(), **accuracies}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data_dir", default="data")
    main(**vars(parser.parse_args()))
