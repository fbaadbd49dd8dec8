"""usage: python -m fashion_lightning.export MODEL.onnx [--ckpt_path best|last|run:N|PATH] [--flag VALUE ...]

Exports a trained network for programs without PyTorch, as an ONNX file from images to probabilities.
The file is checked with ONNX Runtime on the test set, and gets a model card beside it, README.md.

examples
  python -m fashion_lightning.export exported/model.onnx
  python -m fashion_lightning.export model.onnx --ckpt_path run:3 --overwrite

flags that people use
  --overwrite                        replaces a file of this name, once the new one is checked
"""

from typing import Any

from fashion_lightning.command_line import command


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Returns `file`, `card`, `max_difference` of probabilities, and `test`, with `accuracy` and `images`."""
    return command.run("export", __doc__, args)


if __name__ == "__main__":
    command.run_process(main)
