"""`python -m fashion_lightning.fit`: trains, evaluates the best checkpoint on every split, and writes it all down."""

from pathlib import Path
from typing import Any

from fashion_lightning import cli, results


def fit(setup: cli.FashionCLI) -> dict[str, Any]:
    trainer, model, data, record = setup.trainer, setup.model, setup.datamodule, setup.record
    trainer.fit(model, datamodule=data, ckpt_path=setup.checkpoint, weights_only=True)
    summary = results.describe_run(trainer, model, record, setup.config.seed_everything)
    best = trainer.checkpoint_callback and trainer.checkpoint_callback.best_model_path
    checkpoint = Path(best) if best else None  # none where nothing was validated or kept: the weights as they are
    splits = results.evaluate(trainer, model, data, checkpoint)
    summary = {**splits, **summary, "checkpoint": str(checkpoint) if checkpoint else None}
    if trainer.is_global_zero:
        if record.folder:
            results.write(summary, record.folder)
        results.print_card(summary, record.folder)
    return summary


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Returns what `results.json` holds."""
    return cli.run("fit", fit, args)


if __name__ == "__main__":
    main()
