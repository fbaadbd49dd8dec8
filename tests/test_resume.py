"""The promise of resuming: killed at any instant, the same command ends with the bits of a run never killed."""

import json
import random
import shutil
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import forked
import pytest
import torch
from torch.utils.data import DataLoader

from fashion_lightning import FashionClassifier
from fashion_lightning.reports.comparison import contents, different
from fashion_lightning.storage.run_folders import Run
from fashion_lightning.training.metrics import SplitMetrics
from fashion_lightning.training.resuming import _restore_sums

# Three epochs of 10 steps, each followed by 4 validation batches; checkpoints after steps 1, 3, 7 and 10 of the first.
STEP = "torch.optim.Adam.step"
BATCH_START = "fashion_lightning.training.checkpointing.Checkpointing.on_train_batch_start"
VALIDATION_STEP = "fashion_lightning.classifier.FashionClassifier.validation_step"
TEST_STEP = "fashion_lightning.classifier.FashionClassifier.test_step"
CHECKPOINTING = "fashion_lightning.training.checkpointing.Checkpointing"
QUICK_POINTS = [
    ("fashion_lightning.training.record.RunRecord.setup", 1, "before"),
    (STEP, 11, "after"),
    ("os.fsync", 5, "half"),
    ("os.replace", 4, "after"),
    (TEST_STEP, 20, "after"),
]
SLOW_POINTS = [
    (STEP, 1, "after"),
    (STEP, 15, "before"),
    (BATCH_START, 2, "after"),
    ("os.replace", 3, "before"),
    ("fashion_lightning.training.record.RunRecord.setup", 1, "after"),
    ("torch.utils.tensorboard.SummaryWriter.__init__", 1, "after"),
    ("fashion_lightning.reports.inspection.Inspection.on_fit_start", 1, "after"),
    *((STEP, count, "after") for count in (2, 8, 10, 20, 30)),
    (STEP, 5, "before"),
    *((BATCH_START, count, "before") for count in (1, 11)),
    *((BATCH_START, count, "after") for count in (11, 21)),
    *((VALIDATION_STEP, count, "after") for count in (1, 3, 9, 13)),  # the first two are the sanity check
    (f"{CHECKPOINTING}.on_validation_end", 2, "before"),
    (f"{CHECKPOINTING}.on_validation_end", 4, "after"),
    (f"{CHECKPOINTING}.on_train_end", 1, "before"),
    *(("fashion_lightning.training.record.RunRecord.on_train_epoch_end", count, "after") for count in (1, 3)),
    (f"{CHECKPOINTING}.on_train_end", 1, "after"),
    *(("os.fsync", count, "half") for count in (2, 3, 9, 13)),
    ("os.fsync", 3, "after"),
    *(("os.replace", count, "before") for count in (2, 4, 9)),
    *(("os.replace", count, "after") for count in (2, 3, 10)),
    ("fashion_lightning.reports.inspection.Inspection.on_fit_end", 1, "after"),
    (TEST_STEP, 1, "after"),
    ("fashion_lightning.reports.inspection.Inspection.on_test_end", 1, "after"),
    ("fashion_lightning.reports.results.write", 1, "before"),
    ("fashion_lightning.reports.results.write", 1, "after"),
]
VARIANTS = {
    "accumulation": ["--trainer.accumulate_grad_batches", "3"],
    "two validations an epoch": ["--trainer.val_check_interval", "0.5"],
    "a validation every other epoch": ["--trainer.check_val_every_n_epoch", "2"],
    "a validation every 7 steps": ["--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", "7"],
    "a validation within a step": ["--trainer.accumulate_grad_batches", "3", "--trainer.val_check_interval", "5"],
    "accumulation that changes": [
        *("--trainer.callbacks", "GradientAccumulationScheduler"),
        *("--trainer.callbacks.scheduling", "{0: 1, 1: 7, 2: 3}"),
    ],
    "averaged weights": ["--trainer.callbacks", "EMAWeightAveraging", "--trainer.callbacks.decay", "0.8"],
    "stochastic weight averaging": [
        *("--trainer.callbacks", "StochasticWeightAveraging", "--trainer.callbacks.swa_lrs", "0.005"),
        *("--trainer.callbacks.swa_epoch_start", "1"),
    ],
    "limited batches": ["--trainer.limit_train_batches", "7"],
    "an end within an epoch": ["--trainer.max_steps", "25"],
    "momentum": ["--model.optimizer", "SGD", "--model.optimizer.lr", "0.1", "--model.optimizer.momentum", "0.9"],
    "dropout": ["--model.network", "resume_networks.Dropout"],
    "random changes of images": [
        *("--model.network", "WhitenedCNN", "--model.augmentation", "Augmentation"),
        *("--model.augmentation.shift", "2", "--model.augmentation.cutout", "8", "--model.label_smoothing", "0.1"),
        *("--model.lr_scheduler", "RiseAndFall", "--model.lr_scheduler.total_steps", "30"),
    ],
}


@pytest.fixture(scope="session")
def fit_args(tiny_data) -> list[str]:
    return [
        *("--data.data_dir", str(tiny_data), "--data.verify", "false", "--trainer.accelerator", "cpu"),
        *("--data.batch_size", "20", "--data.eval_batch_size", "16", "--trainer.max_epochs", "3"),
        *("--trainer.log_every_n_steps", "4", "--inspect.figures", "false", "--inspect.graph", "false", "--resume"),
    ]


@pytest.fixture(scope="session")
def never_killed(fit_args, tmp_path_factory):
    """Contents of a run that nobody killed, by its flags; made once."""
    made = {}

    def get(*flags, **kwargs):
        key = (flags, str(kwargs))
        if key not in made:
            folder = tmp_path_factory.mktemp("never_killed")
            assert forked.run(folder, [*fit_args, *flags], **kwargs) == 0, (folder / "err").read_text()
            made[key] = contents(Run(folder / "lightning_logs" / "version_0"))
        return made[key]

    return get


def killed(folder: Path, args: list[str], *kills: forked.Kill, **kwargs) -> dict:
    """Contents of a run that was killed at these points, one after the other, and then left alone."""
    for kill in kills:
        status = forked.run(folder, args, kill=kill, **kwargs)
        assert status == -9, (kill, status, (folder / "err").read_text())
    status = forked.run(folder, args, **kwargs)
    assert status == 0, (folder / "err").read_text()
    assert (folder / "err").read_text() == ""
    assert [path.name for path in (folder / "lightning_logs").iterdir()] == ["version_0"]
    assert not list(folder.rglob("*.part"))
    return contents(Run(folder / "lightning_logs" / "version_0"))


@pytest.mark.parametrize("kill", [*QUICK_POINTS, *(pytest.param(kill, marks=pytest.mark.slow) for kill in SLOW_POINTS)])
def test_killed_once(kill, fit_args, never_killed, tmp_path):
    assert different(killed(tmp_path, fit_args, kill), never_killed()) == []


def test_there_are_enough_points():
    assert len({*QUICK_POINTS, *SLOW_POINTS}) >= 45


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_killed_again_and_again(precision, fit_args, never_killed, tmp_path):
    flags = ["--trainer.precision", precision]
    kills = [
        (STEP, 5, "before"),
        ("os.fsync", 3, "half"),
        (VALIDATION_STEP, 2, "after"),
        (STEP, 3, "after"),
        ("os.replace", 2, "after"),
        (BATCH_START, 7, "after"),
        (TEST_STEP, 5, "after"),
    ]
    assert different(killed(tmp_path, [*fit_args, *flags], *kills), never_killed(*flags)) == []


def dropout() -> None:
    """Makes `resume_networks.Dropout` importable."""
    import sys
    from types import ModuleType

    from torch import nn

    class Dropout(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10))

    module = ModuleType("resume_networks")
    Dropout.__module__, Dropout.__qualname__ = "resume_networks", "Dropout"
    module.Dropout = Dropout
    sys.modules["resume_networks"] = module


QUICK_VARIANTS = ("random changes of images",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK_VARIANTS else pytest.mark.slow) for name in VARIANTS]
)
def test_killed_in_other_settings(name, fit_args, never_killed, tmp_path):
    flags = VARIANTS[name]
    kwargs = {"patch": dropout}
    optimizer = "torch.optim.SGD.step" if "SGD" in flags else STEP
    kills = [(optimizer, 6, "after"), (optimizer, 5, "after")]
    if "accumulat" not in " ".join(flags).lower():
        kills.append((optimizer, 8, "before"))
    assert different(killed(tmp_path, [*fit_args, *flags], *kills, **kwargs), never_killed(*flags, **kwargs)) == []


def test_the_seed_matters_to_the_comparison(fit_args, never_killed):
    found = different(never_killed(), never_killed("--seed_everything", "1"))
    assert {"weights", "optimiser state", "metrics.csv", "TensorBoard", "results.json"} <= set(found)


@pytest.mark.parametrize(
    "name",
    ["", *(pytest.param(name, marks=pytest.mark.slow) for name in ("accumulation that changes", "averaged weights"))],
)
def test_longer_later_is_as_long_at_once(name, fit_args, never_killed, tmp_path):
    flags = VARIANTS[name] if name else []
    assert forked.run(tmp_path, [*fit_args, *flags, "--trainer.max_epochs", "2"]) == 0
    assert (
        different(killed(tmp_path, [*fit_args, *flags]), never_killed(*flags, **{"patch": dropout} if name else {}))
        == []
    )


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_said_to_be_finished(fit_args, tmp_path):
    run = tmp_path / "lightning_logs" / "version_0"
    assert forked.run(tmp_path, fit_args) == 0
    before, card = files(run), (tmp_path / "out").read_text().split("\n\n")[-2:]
    for more in ([], ["--trainer.max_epochs", "2"], ["--trainer.max_steps", "30"], ["--ckpt_path", "last"]):
        args = [*fit_args[:-1], *more] if "--ckpt_path" in more else [*fit_args, *more]
        assert forked.run(tmp_path, args) == 0, (tmp_path / "err").read_text()
        printed = (tmp_path / "out").read_text()
        assert printed.startswith("resume      nothing: lightning_logs/version_0 is finished; to train it longer: ")
        assert f"--trainer.{'max_steps' if '--trainer.max_steps' in more else 'max_epochs'} N\n" in printed
        assert printed.split("\n\n")[-2:] == card
        assert files(run) == before


def test_a_run_that_was_stopped_early_is_finished_until_its_limits_change(fit_args, tmp_path):
    stop = ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss"]
    stop += ["--trainer.callbacks.stopping_threshold", "100"]
    assert forked.run(tmp_path, [*fit_args, *stop]) == 0
    assert "epoch 1/3" in (tmp_path / "out").read_text()
    assert forked.run(tmp_path, ["--resume"]) == 0
    assert "version_0 is finished" in (tmp_path / "out").read_text()
    assert forked.run(tmp_path, ["--resume", "--trainer.max_epochs", "5"]) == 0
    assert "epoch 2/5" in (tmp_path / "out").read_text()


def test_settings_that_change_on_the_way_are_kept(fit_args, tmp_path):
    run = Run(tmp_path / "lightning_logs" / "version_0")
    assert forked.run(tmp_path, fit_args) == 0
    assert json.loads(run.results.read_text())["changes"] == []
    results = run.results.read_bytes()
    longer = ["--resume", "--trainer.max_epochs", "5", "--model.label_smoothing", "0.1"]
    assert forked.run(tmp_path, longer, kill=(STEP, 2, "after")) == -9
    assert run.previous_results.read_bytes() == results  # which are no longer those of the run
    assert not run.results.exists()
    assert forked.run(tmp_path, longer) == 0
    assert forked.run(tmp_path, ["--resume", "--trainer.max_epochs", "6"]) == 0
    changed = [line for line in run.config.read_text().splitlines() if line.startswith("# changed after step ")]
    assert [line.split(": ")[:2] for line in changed] == [
        ["# changed after step 30", "--trainer.max_epochs"],
        ["# changed after step 30", "--model.label_smoothing"],
        ["# changed after step 50", "--trainer.max_epochs"],
    ]
    assert json.loads(run.results.read_text())["changes"] == [line.removeprefix("# changed ") for line in changed]
    assert forked.run(tmp_path / "again", ["--config", str(run.config)]) == 0  # it is read as before


@pytest.mark.parametrize("setting", ["--model.mirror_at_test", "--model.optimizer.lr"])
def test_refuses_to_resume_what_could_not_be_compared(setting, fit_args, tmp_path):
    assert forked.run(tmp_path, [*fit_args, "--trainer.max_epochs", "1"]) == 0
    before = files(tmp_path / "lightning_logs")
    value = "true" if "mirror" in setting else "0.5"
    assert forked.run(tmp_path, [*fit_args, setting, value]) == 2
    assert (tmp_path / "err").read_text().startswith("error: cannot resume with another optimiser, schedule or evalu")
    assert files(tmp_path / "lightning_logs") == before


def test_weights_that_are_averaged_at_the_end_are_not_trained_longer(fit_args, tmp_path):
    averaging = VARIANTS["stochastic weight averaging"]
    assert forked.run(tmp_path, [*fit_args, *averaging]) == 0
    assert forked.run(tmp_path, ["--resume", "--trainer.max_epochs", "5"]) == 2
    error = (tmp_path / "err").read_text()
    assert error.startswith("error: cannot resume with --trainer.max_epochs: 5, in the run: 3: StochasticWeight")


@pytest.mark.slow
def test_killed_while_batch_norm_is_averaged(fit_args, never_killed, tmp_path):
    flags = VARIANTS["stochastic weight averaging"]
    kills = [(STEP, 22, "after"), (BATCH_START, 15, "after"), (VALIDATION_STEP, 3, "after")]
    assert different(killed(tmp_path, [*fit_args, *flags], *kills), never_killed(*flags, patch=dropout)) == []


def test_a_damaged_checkpoint_falls_back_to_the_one_before(fit_args, never_killed, tmp_path):
    assert forked.run(tmp_path, fit_args, kill=(STEP, 18, "after")) == -9
    last = tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1  # a bit of a weight, which torch.load would not see
    last.write_bytes(content)
    assert forked.run(tmp_path, fit_args) == 0
    error = (tmp_path / "err").read_text()
    assert "last.ckpt is not a whole checkpoint (the checksum of its part" in error
    assert "resuming from the checkpoint before it" in error
    assert "previous.ckpt\n" in (tmp_path / "out").read_text()
    assert different(contents(Run(tmp_path / "lightning_logs" / "version_0")), never_killed()) == []


def test_a_run_without_a_whole_checkpoint_is_left_as_it_is(fit_args, tmp_path):
    assert forked.run(tmp_path, fit_args) == 0
    run = tmp_path / "lightning_logs" / "version_0"
    for name in ("last.ckpt", "previous.ckpt"):
        (run / "checkpoints" / name).write_bytes(b"")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert forked.run(tmp_path, fit_args) == 2
    error = (tmp_path / "err").read_text().splitlines()[-1]
    assert error.startswith("error: lightning_logs/version_0/checkpoints/previous.ckpt is not a whole checkpoint")
    assert error.endswith("whole ones beside it: lightning_logs/version_0/checkpoints/best.ckpt")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ckpt_path", "last"], "--resume: expected no --ckpt_path beside it"),
        (["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "."], "--resume: expected no --trainer.logger"),
    ],
)
def test_refuses_what_does_not_go_with_it(flags, message, fit_args, tmp_path):
    assert forked.run(tmp_path, [*fit_args, *flags]) == 2
    [line] = (tmp_path / "err").read_text().splitlines()
    assert line.startswith(f"error: {message}")


def test_weights_alone_are_no_training_to_resume(fit_args, tmp_path):
    torch.save({"state_dict": FashionClassifier().state_dict()}, tmp_path / "weights.ckpt")
    assert forked.run(tmp_path, [*fit_args[:-1], "--ckpt_path", "weights.ckpt"]) == 2
    [line] = (tmp_path / "err").read_text().splitlines()
    assert line.startswith("error: weights.ckpt holds weights but no training state: expected a checkpoint of a fit")


def test_a_checkpoint_without_the_newest_settings_is_resumed(fit_args, tmp_path):
    """Copied out of its run, so that what it holds itself is all that is known."""
    assert forked.run(tmp_path, [*fit_args, "--trainer.max_epochs", "1"]) == 0
    content = torch.load(Run(tmp_path / "lightning_logs/version_0").files("last")[-1])
    for name in ("shift_at_test", "compile"):
        del content["callbacks"]["RunRecord"]["settings"]["model"][name]
    del content["made_with"]["compile"], content["shift_at_test"]
    torch.save(content, tmp_path / "copy.ckpt")
    flags = ["--trainer.default_root_dir", "other", "--ckpt_path", "copy.ckpt"]
    assert forked.run(tmp_path, [*fit_args[:-1], *flags]) == 0
    output = (tmp_path / "out").read_text()
    assert [line.split()[1] for line in output.splitlines() if line.startswith("differs")] == ["--trainer.max_epochs:"]
    assert (tmp_path / "err").read_text() == ""


def test_says_what_it_resumes_from(fit_args, tmp_path):
    assert forked.run(tmp_path, fit_args, kill=("fashion_lightning.training.record.RunRecord.setup", 1, "after")) == -9
    assert "resume      nothing: there is no run yet, so this is a new one" in (tmp_path / "out").read_text()
    assert forked.run(tmp_path, fit_args, kill=(STEP, 6, "after")) == -9
    assert "version_0 from the beginning: it has no checkpoint yet" in (tmp_path / "out").read_text()
    assert forked.run(tmp_path, ["--resume"]) == 0  # all settings are the run's
    assert "resume      after step 3\n" in (tmp_path / "out").read_text()


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["--seed_everything", "1"], "seed"),
        pytest.param(["--data.split_seed", "1"], "split_seed", marks=pytest.mark.slow),
        pytest.param(["--data.batch_size", "40"], "batch_size", marks=pytest.mark.slow),
    ],
)
def test_refuses_to_resume_with_other_images(flags, name, fit_args, tmp_path):
    assert forked.run(tmp_path, fit_args, kill=(STEP, 6, "after")) == -9
    before = (tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt").read_bytes()
    assert forked.run(tmp_path, [*fit_args, *flags]) == 2
    [line] = (tmp_path / "err").read_text().splitlines()
    assert line.startswith(f"error: cannot resume: {name} was ")
    assert (tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt").read_bytes() == before
    assert forked.run(tmp_path, ["--resume"]) == 0, (tmp_path / "err").read_text()  # the refused settings are not kept


def test_the_name_of_the_settings_stays(fit_args, tmp_path):
    (tmp_path / "quick.yaml").write_text("trainer:\n  max_epochs: 3\n")
    assert forked.run(tmp_path, [*fit_args, "--config", "quick.yaml"], kill=(STEP, 18, "after")) == -9
    assert forked.run(tmp_path, ["--resume"]) == 0
    results = json.loads((tmp_path / "lightning_logs" / "version_0" / "results.json").read_text())
    assert results["config"] == "quick"


def test_an_epoch_that_ended_early_is_one_row(fit_args, tmp_path):
    assert forked.run(tmp_path, [*fit_args, "--trainer.max_steps", "15"]) == 0
    assert forked.run(tmp_path, [*fit_args, "--trainer.max_steps", "-1"]) == 0
    table = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in table[1:]] == [["1", "10"], ["2", "20"], ["3", "30"]]


def test_a_damaged_best_is_replaced_by_what_comes(fit_args, tmp_path):
    assert forked.run(tmp_path, fit_args, kill=(STEP, 18, "after")) == -9
    best = tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:1000])
    assert forked.run(tmp_path, fit_args) == 0
    [line] = (tmp_path / "err").read_text().splitlines()
    assert line.startswith("warning: ")
    assert line.endswith("the best of the next ones replaces it")
    assert len(contents(Run(tmp_path / "lightning_logs" / "version_0"))["metrics.csv"].splitlines()) == 4


def test_leaves_the_runs_of_other_programs_alone(fit_args, tmp_path):
    folder = tmp_path / "lightning_logs" / "version_7" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "epoch=0-step=10.ckpt").touch()
    (folder.parent / "config.yaml").write_text("seed_everything: true\ntrainer: {}\n")  # of another LightningCLI
    assert forked.run(tmp_path, fit_args) == 0
    assert "resume      nothing" in (tmp_path / "out").read_text()
    assert (tmp_path / "lightning_logs" / "version_8" / "results.json").is_file()


@pytest.mark.parametrize(("before", "now"), [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_sums_of_a_device_without_float64_are_taken_over_and_given(before, now):
    metrics = SplitMetrics().set_dtype(now)
    model = SimpleNamespace(train_metrics=metrics, trainer=SimpleNamespace(global_rank=0, world_size=1))
    _restore_sums(model, {name: torch.tensor([3.0], dtype=before) for name in ("loss", "correct", "images")})
    assert [(float(state), state.dtype) for state in metrics.metric_state.values()] == [(3.0, now)] * 3


def test_says_when_the_last_bits_may_differ(fit_args, tmp_path):
    assert forked.run(tmp_path, fit_args, kill=(STEP, 6, "after")) == -9
    assert forked.run(tmp_path, fit_args, patch=partial(torch.set_num_threads, torch.get_num_threads() + 1)) == 0
    assert "warning: the last bits may differ: the checkpoint was made with" in (tmp_path / "err").read_text()


def shuffle() -> None:
    """An order that the process draws, instead of a function of seed and step."""
    from fashion_lightning.data.module import FashionMNISTDataModule, TensorDataset

    def train_dataloader(self: FashionMNISTDataModule) -> DataLoader:
        return DataLoader(TensorDataset(*self.splits["train"][:]), self.batch_size, shuffle=True)

    FashionMNISTDataModule.train_dataloader = train_dataloader


def save_before_validation() -> None:
    """Writes checkpoints at the end of a batch, where other things are still to be done."""
    from fashion_lightning.training.checkpointing import Checkpointing

    Checkpointing.on_train_batch_start = lambda *args: None
    Checkpointing.on_train_batch_end = lambda self, trainer, pl_module, *args: self._save(trainer, pl_module)


def forget_metrics() -> None:
    from fashion_lightning.training.resuming import ExactResume

    load = ExactResume.on_load_checkpoint

    def on_load_checkpoint(self, trainer, pl_module, checkpoint):
        load(self, trainer, pl_module, {**checkpoint, "train_metrics": {}})

    ExactResume.on_load_checkpoint = on_load_checkpoint


@pytest.mark.parametrize(
    ("patch", "kill", "expected"),
    [
        (shuffle, (STEP, 15, "after"), {"weights", "metrics.csv"}),
        pytest.param(save_before_validation, (VALIDATION_STEP, 5, "after"), {"metrics.csv"}, marks=pytest.mark.slow),
        pytest.param(forget_metrics, (STEP, 6, "after"), {"metrics.csv"}, marks=pytest.mark.slow),
    ],
)
def test_the_comparison_can_fail(patch, kill, expected, fit_args, never_killed, tmp_path):
    assert forked.run(tmp_path, fit_args, kill=kill, patch=patch) == -9
    assert forked.run(tmp_path, fit_args, patch=patch) == 0
    found = different(contents(Run(tmp_path / "lightning_logs" / "version_0")), never_killed(patch=patch))
    assert expected <= set(found)


def kill_at_random(folder: Path, args: list[str], rng: random.Random, kills: int, seconds: float) -> int:
    """Starts the run over and over and kills it after up to `seconds`, `kills` times or until it is done."""
    for done in range(kills):
        process = forked.start(folder, args)
        process.join(rng.uniform(0, seconds))
        if process.exitcode is not None:
            assert process.exitcode == 0, (folder / "err").read_text()
            return done
        process.kill()
        process.join()
    assert forked.run(folder, args) == 0, (folder / "err").read_text()
    return kills


@pytest.mark.slow
def test_killed_a_hundred_times_at_random(fit_args, never_killed, tmp_path):
    flags = ["--trainer.max_epochs", "20"]
    rng, total, runs = random.Random(0), 0, 0
    while total < 100:
        total += kill_at_random(tmp_path / str(runs), [*fit_args, *flags], rng, 100 - total, seconds=3)
        found = contents(Run(tmp_path / str(runs) / "lightning_logs" / "version_0"))
        assert different(found, never_killed(*flags)) == []
        shutil.rmtree(tmp_path / str(runs))
        runs += 1
    print(f"{total} kills in {runs} runs")


@pytest.mark.slow
def test_the_whole_assignment_killed_three_times(real_data, tmp_path):
    args = ["--data.data_dir", str(real_data), "--resume"]
    start = time.monotonic()
    assert forked.wait(forked.start(tmp_path / "whole", args), timeout=900) == 0
    seconds = time.monotonic() - start
    rng = random.Random(1)
    for _ in range(3):
        process = forked.start(tmp_path / "killed", args)
        process.join(rng.uniform(0.1, 0.3) * seconds)
        process.kill()
        process.join()
    assert forked.wait(forked.start(tmp_path / "killed", args), timeout=900) == 0
    whole, killed = (contents(Run(tmp_path / name / "lightning_logs" / "version_0")) for name in ("whole", "killed"))
    assert different(whole, killed) == []
