"""Whether `--model.compile true` pays: steps of a compiled network beside those of the same network, and its first one.

Command: python -m benchmarks.compiled [--blocks N]
Cold is the first step with an empty cache of the compiler, warm with what the cold one has left there. Steps are timed
in blocks, in turn; a ratio is the median of those of the blocks. With --network, times one and prints a line of JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from benchmarks.measuring import measure, where_and_with_what
from fashion_lightning import FashionClassifier
from fashion_lightning.command_line.build import tune_process
from fashion_lightning.networks import FashionCNN, ResidualCNN, WhitenedCNN

# With the batch size that each is trained with.
NETWORKS = {"FashionCNN": (FashionCNN, 60), "WhitenedCNN": (WhitenedCNN, 128), "ResidualCNN": (ResidualCNN, 128)}
PRECISIONS = {"32-true": False, "bf16-mixed": True}
STEPS_IN_BLOCK = 10


def step_of(name: str, precision: str) -> tuple[torch.nn.Module, Callable[[], float]]:
    """A network, and a training step of it, which returns its seconds."""
    factory, batch_size = NETWORKS[name]
    torch.manual_seed(0)
    model = FashionClassifier(network=factory)
    optimizer = model.configure_optimizers()["optimizer"]
    images, labels = torch.rand(batch_size, 1, 28, 28) * 2 - 1, torch.arange(batch_size) % 10

    def step() -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISIONS[precision]):
            loss = F.cross_entropy(model.network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return time.perf_counter() - start

    return model.network, step


def time_one(name: str, precision: str, blocks: int) -> dict[str, float]:
    torch.use_deterministic_algorithms(True)
    tune_process()
    _, eager = step_of(name, precision)
    network, compiled = step_of(name, precision)
    network.compile(dynamic=False)
    first = compiled()
    for step in (eager, compiled) * 3:
        step()
    seconds = [
        [statistics.mean(step() for _ in range(STEPS_IN_BLOCK)) for step in (eager, compiled)] for _ in range(blocks)
    ]
    return {
        "first_seconds": first,
        "eager_seconds": statistics.median(eager for eager, _ in seconds),
        "ratio": statistics.median(compiled / eager for eager, compiled in seconds),
    }


def main(blocks: int) -> None:
    print(f"{'':24}{'step':>8}{'compiled':>9}{'cold':>8}{'warm':>8}")
    for name in NETWORKS:
        for precision in PRECISIONS:
            command = ["benchmarks.compiled", "--blocks", str(blocks), "--network", name, "--precision", precision]
            with tempfile.TemporaryDirectory() as folder:
                cold, warm = (measure(command, {"TORCHINDUCTOR_CACHE_DIR": folder}) for _ in range(2))
            ratio = statistics.mean([cold["ratio"], warm["ratio"]])
            firsts = f"{cold['first_seconds']:6.1f} s{warm['first_seconds']:6.1f} s"
            print(f"{name:13}{precision:11}{warm['eager_seconds'] * 1e3:5.1f} ms{ratio:9.2f}{firsts}", flush=True)
    print(f"on {where_and_with_what()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument("--network", choices=NETWORKS)
    parser.add_argument("--precision", choices=PRECISIONS, default="32-true")
    options = parser.parse_args()
    if options.network:
        print(json.dumps(time_one(options.network, options.precision, options.blocks)))
    else:
        main(options.blocks)
