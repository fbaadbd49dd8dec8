"""The assignment as public Lightning examples write it: torchvision's data set, workers, `self.log` in each step.

Command: python -m benchmarks.idiomatic [--epochs N] [--workers N] [--data_dir DIR]
Prints one line of JSON at the end: fit_seconds (training and validation) and accuracies.
"""

import argparse
import json
import tempfile

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms
from torchvision.datasets import FashionMNIST

from benchmarks.notebook import Model, torchvision_folder


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Model()
        self.accuracy = torch.nn.ModuleDict({f"{split}_": MulticlassAccuracy(10) for split in ("train", "val", "test")})

    def forward(self, images):
        return self.model(images)

    def shared_step(self, batch, split):
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels)
        accuracy = self.accuracy[f"{split}_"]
        accuracy(logits, labels)
        self.log(f"{split}_loss", loss, prog_bar=True)
        self.log(f"{split}_accuracy", accuracy, prog_bar=True, on_step=False, on_epoch=True)  # type: ignore[arg-type]  # of a ModuleDict
        return loss

    def training_step(self, batch, batch_idx):
        return self.shared_step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.shared_step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.shared_step(batch, "test")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.999)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Data(pl.LightningDataModule):
    def __init__(self, data_dir, workers):
        super().__init__()
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
        with tempfile.TemporaryDirectory() as folder:
            torchvision_folder(data_dir, folder)
            train_file = FashionMNIST(folder, train=True, transform=transform)
            self.test_set = FashionMNIST(folder, train=False, transform=transform)
        self.train_set, self.val_set = random_split(train_file, [0.8, 0.2])
        self.settings = {"batch_size": 60, "num_workers": workers, "persistent_workers": workers > 0}

    def train_dataloader(self):
        return DataLoader(self.train_set, shuffle=True, **self.settings)

    def val_dataloader(self):
        return DataLoader(self.val_set, **self.settings)

    def test_dataloader(self):
        return DataLoader(self.test_set, **self.settings)


def main(epochs, workers, data_dir):
    pl.seed_everything(0)
    timer = Timer()
    trainer = pl.Trainer(max_epochs=epochs, deterministic=True, callbacks=[timer])
    model, data = Classifier(), Data(data_dir, workers)
    trainer.fit(model, data)
    accuracies = {"val": trainer.callback_metrics["val_accuracy"].item()}
    for split, loader in (("train", data.train_dataloader()), ("test", data.test_dataloader())):
        accuracies[split] = trainer.test(model, loader, verbose=False)[0]["test_accuracy"]
    print("\n" + json.dumps({"fit_seconds": timer.time_elapsed("train"), **accuracies}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--data_dir", default="data")
    main(**vars(parser.parse_args()))
