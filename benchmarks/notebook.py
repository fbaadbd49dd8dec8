"""The assignment's notebook as its readers would write it: the baseline for speed. Nothing here is tuned.

Command: python -m benchmarks.notebook [--epochs N] [--data_dir DIR]
Prints one line of JSON: fit_seconds (training and validation), then losses and accuracies.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler
from torchvision import transforms
from torchvision.datasets import FashionMNIST

from fashion_lightning.data import files


class Model(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, stride=1, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, stride=1, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, kernel_size=5, stride=1, padding=2)
        self.bn3 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2, 2)
        self.fc = nn.Linear(64 * 3 * 3, num_classes)

    def forward(self, x):
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        x = self.pool(self.relu(self.bn2(self.conv2(x))))
        x = self.pool(self.relu(self.bn3(self.conv3(x))))
        return self.fc(x.view(x.size(0), -1))


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def write_idx(path, tensor):
    header = bytes([0, 0, 8, tensor.ndim]) + b"".join(size.to_bytes(4, "big") for size in tensor.shape)
    path.write_bytes(header + tensor.numpy().tobytes())


def torchvision_folder(data_dir, folder):
    """The four verified files where torchvision looks for them."""
    raw = Path(folder) / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, tensor in files.load(data_dir).items():
        write_idx(raw / name, tensor)
    return folder


@torch.no_grad()
def evaluate(model, loader, criterion, device):
    model.eval()
    loss = correct = count = 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        loss += criterion(logits, labels).item() * len(labels)
        correct += (logits.argmax(1) == labels).sum().item()
        count += len(labels)
    model.train()
    return loss / count, correct / count


def main(epochs, data_dir):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seed_all(0)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    with tempfile.TemporaryDirectory() as folder:
        torchvision_folder(data_dir, folder)
        train_set = FashionMNIST(folder, train=True, transform=transform)
        test_set = FashionMNIST(folder, train=False, transform=transform)
    indices = list(range(len(train_set)))
    np.random.seed(0)
    np.random.shuffle(indices)
    split = int(0.2 * len(train_set))
    train_loader = DataLoader(train_set, batch_size=60, sampler=SubsetRandomSampler(indices[split:]))
    val_loader = DataLoader(train_set, batch_size=60, sampler=SubsetRandomSampler(indices[:split]))
    test_loader = DataLoader(test_set, batch_size=50)

    model = Model().to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.999)
    train_losses, val_losses = [], []
    start = time.perf_counter()
    for epoch in range(epochs):
        total = 0.0
        for i, (images, labels) in enumerate(train_loader):
            images, labels = images.to(device), labels.to(device)
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
            if (i + 1) % 100 == 0:
                lr = optimizer.param_groups[0]["lr"]
                print(f"epoch {epoch + 1} iteration {i + 1} loss {loss.item():.4f} lr {lr:.6f}", flush=True)
        train_losses.append(total / len(train_loader))
        val_loss, val_accuracy = evaluate(model, val_loader, criterion, device)
        val_losses.append(val_loss)
    seconds = time.perf_counter() - start

    accuracies = {"val": val_accuracy}
    for name, loader in (("train", train_loader), ("test", test_loader)):
        accuracies[name] = evaluate(model, loader, criterion, device)[1]
    print(json.dumps({"fit_seconds": seconds, "train_loss": train_losses, "val_loss": val_losses, **accuracies}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data_dir", default="data")
    main(**vars(parser.parse_args()))
