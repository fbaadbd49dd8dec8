"""usage: python -m fashion_lightning.fit [--flag VALUE ...]

Trains a CNN on Fashion-MNIST, evaluates it, and writes all to lightning_logs/version_N.
Without flags it does the assignment: its network, optimiser, schedule, batches, epochs and seed.

examples
  python -m fashion_lightning.fit
  python -m fashion_lightning.fit --trainer.max_epochs 10 --seed_everything 1
  python -m fashion_lightning.fit --model.optimizer SGD --model.optimizer.lr 0.1
  python -m fashion_lightning.fit --model.network my_networks.MyNetwork
  python -m fashion_lightning.fit --config configs/fast.yaml
  python -m fashion_lightning.fit --resume

flags that people use
  --trainer.max_epochs N, --trainer.max_steps N, --trainer.max_time DD:HH:MM:SS
  --trainer.precision 32-true|bf16-mixed|16-mixed|bf16-true|64-true
  --trainer.devices N --trainer.strategy ddp    several GPUs, or processes on a CPU
  --trainer.logger false             no TensorBoard
  --resume                           resumes the newest run from its last checkpoint, if it is not finished
  --seed_everything N                initial weights and order of the images
  --data.batch_size N                images in a batch, over all processes
  --model.network CLASS              a class or its path, and --model.network.ARGUMENT VALUE
  --model.optimizer CLASS            likewise, of torch.optim; --model.optimizer.lr RATE
  --model.lr_scheduler CLASS         likewise, of torch.optim.lr_scheduler; steps after every batch
  --model.augmentation Augmentation  mirrors, shifts and covers training images
  --model.compile true               compiles the network first
  --model.mirror_at_test true        averages over each image and its mirror image; likewise shift_at_test
  --data.val_fraction 0              trains on all images, validates none
  --evaluate_test false              leaves the test set alone, for fashion_lightning.test later
  --inspect.figures false            no figures; likewise graph, pr_curves; --inspect.projector true
"""

from typing import Any

from fashion_lightning.command_line import command


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Returns what `results.json` holds."""
    return command.run("fit", __doc__, args)


if __name__ == "__main__":
    command.run_process(main)
