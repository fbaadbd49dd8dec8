"""Ends of training that were not planned, in real processes."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import forked
import pytest
import torch

from fashion_lightning.errors import Stopped, WorkError
from fashion_lightning.reports.comparison import contents, different
from fashion_lightning.storage.run_folders import Run
from fashion_lightning.training.stopping import MAX_STEPS_AHEAD, FiniteLoss, SignalStop

RUN = Path("lightning_logs/version_0")


@pytest.fixture(scope="session")
def long_args(tiny_data) -> list[str]:
    """Two hundred steps: some seconds."""
    return [
        *("--data.data_dir", str(tiny_data), "--data.verify", "false", "--trainer.accelerator", "cpu"),
        *("--data.batch_size", "20", "--data.eval_batch_size", "16", "--trainer.max_epochs", "20"),
        *("--inspect.figures", "false", "--inspect.graph", "false", "--resume"),
    ]


@pytest.fixture(scope="session")
def never_stopped(long_args, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("never_stopped")
    assert forked.run(folder, long_args) == 0
    return contents(Run(folder / RUN))


def wait_for(path: Path, process, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end
        assert process.is_alive() if hasattr(process, "is_alive") else process.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_training_with_a_checkpoint(signum, status, long_args, never_stopped, tmp_path):
    process = forked.start(tmp_path, long_args)
    wait_for(tmp_path / RUN / "metrics.csv", process)
    os.kill(process.pid, signum)
    assert forked.wait(process) == status
    [line] = (tmp_path / "err").read_text().splitlines()
    stopped = re.fullmatch(
        rf"stopped by {signum.name} after step ([\d,]+), checkpoint saved; to resume: "
        rf"python -m fashion_lightning\.fit --ckpt_path {RUN}/checkpoints/last\.ckpt",
        line,
    )
    assert forked.run(tmp_path, long_args) == 0
    assert f"resume      after step {stopped[1]}\n" in (tmp_path / "out").read_text()
    assert different(contents(Run(tmp_path / RUN)), never_stopped) == []


def sleep_in_a_step() -> None:
    """The fifth step lasts forever, and says when a signal has been received."""
    import torch

    step, calls = torch.optim.Adam.step, 0

    def slow(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 5:
            Path("asleep").touch()
            while True:
                time.sleep(0.1)
                if signal.getsignal(signal.SIGINT).__self__.received:
                    Path("received").touch()
        return step(*args, **kwargs)

    torch.optim.Adam.step = slow


def test_a_second_ctrl_c_does_not_wait(long_args, tmp_path):
    process = forked.start(tmp_path, long_args, patch=sleep_in_a_step)
    wait_for(tmp_path / "asleep", process)
    last = tmp_path / RUN / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    os.kill(process.pid, signal.SIGINT)
    wait_for(tmp_path / "received", process)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGINT)
    assert forked.wait(process) == 130
    assert last.read_bytes() == before


def sleep_in_the_evaluation() -> None:
    from fashion_lightning.classifier import FashionClassifier

    def slow(*args):
        Path("asleep").touch()
        time.sleep(600)

    FashionClassifier.test_step = slow


def test_nothing_is_waited_for_in_the_final_evaluation(long_args, tmp_path):
    args = [*long_args, "--trainer.max_epochs", "1"]
    process = forked.start(tmp_path, args, patch=sleep_in_the_evaluation)
    wait_for(tmp_path / "asleep", process)
    os.kill(process.pid, signal.SIGTERM)
    assert forked.wait(process) == 143
    assert (tmp_path / "err").read_text().startswith("stopped by SIGTERM after step 10")
    assert forked.run(tmp_path, args) == 0
    assert forked.run(tmp_path / "whole", args) == 0
    assert different(contents(Run(tmp_path / RUN)), contents(Run(tmp_path / "whole" / RUN))) == []


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("ddp_fork", marks=pytest.mark.slow)])
def test_two_processes_stop_together(strategy, long_args, tmp_path):
    flags = ["--trainer.devices", "2", "--trainer.strategy", strategy, "--trainer.max_epochs", "400"]
    command = [sys.executable, "-m", "fashion_lightning.fit", *long_args, *flags]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    wait_for(tmp_path / RUN / "metrics.csv", process)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    stopped = re.fullmatch(
        r"stopped by SIGTERM after step ([\d,]+), checkpoint saved; to resume: .* --ckpt_path .*\n", error
    )
    assert stopped, error
    step = int(stopped[1].replace(",", ""))
    alone = ["--trainer.devices", "1", "--trainer.strategy", "auto", "--trainer.max_steps", str(step + 3)]
    done = forked.run(tmp_path, [*long_args, *alone])
    assert done == 0, (tmp_path / "err").read_text()
    assert f"resume      after step {stopped[1]}\n" in (tmp_path / "out").read_text()


def sleep_in_the_last_validation() -> None:
    from fashion_lightning.training.record import RunRecord

    end = RunRecord.on_validation_end

    def slow(self, trainer, *args):
        end(self, trainer, *args)
        if trainer.global_step == 10:
            Path("asleep").touch()
            finish = time.monotonic() + 2
            while time.monotonic() < finish:
                time.sleep(0.1)

    RunRecord.on_validation_end = slow


def test_a_stop_in_the_last_validation_saves_its_work(long_args, tmp_path):
    args = [*long_args, "--trainer.max_epochs", "1"]
    process = forked.start(tmp_path, args, patch=sleep_in_the_last_validation)
    wait_for(tmp_path / "asleep", process)
    os.kill(process.pid, signal.SIGTERM)
    assert forked.wait(process) == 143
    assert (tmp_path / "err").read_text().startswith("stopped by SIGTERM after step 10, checkpoint saved; to resume: ")
    assert forked.run(tmp_path, args) == 0
    assert "resume      after step 10\n" in (tmp_path / "out").read_text()


def nan_in_step_7() -> None:
    from fashion_lightning.classifier import FashionClassifier

    step = FashionClassifier.training_step

    def training_step(self, batch, batch_idx):
        return step(self, batch, batch_idx) * (float("nan") if self.trainer.global_step == 6 else 1)

    FashionClassifier.training_step = training_step


def test_a_loss_that_is_no_number_ends_training_in_that_step(long_args, tmp_path):
    from fashion_lightning.data.module import FashionMNISTDataModule
    from fashion_lightning.data.sampling import epoch_order

    for again in range(2):
        assert forked.run(tmp_path, long_args, patch=nan_in_step_7) == 1
        [line] = (tmp_path / "err").read_text().splitlines()
        found = re.fullmatch(
            r"error: training stopped: the loss of step 7 is nan, at learning rate ([\d.]+), of the training images "
            r"([\d, ]+); the last checkpoint is from before it; start a new run with a lower --model\.optimizer\.lr",
            line,
        )
        assert float(found[1]) == pytest.approx(0.01 * 0.999**6, rel=0.01)
        data = FashionMNISTDataModule(long_args[1], verify=False)
        data.setup()
        order = epoch_order(data.splits["train"].indices, seed=0, epoch=0)
        assert found[2] == ", ".join(str(int(index)) for index in order[120:140]), again
    assert forked.run(tmp_path, [*long_args, "--trainer.max_epochs", "1"]) == 0  # from the last checkpoint


def test_a_rate_that_is_too_high_ends_without_a_save_of_it(long_args, tmp_path):
    flags = ["--model.optimizer", "SGD", "--model.optimizer.lr", "1e30"]
    assert forked.run(tmp_path, [*long_args, *flags]) == 1
    [line] = (tmp_path / "err").read_text().splitlines()
    assert "training stopped" in line
    assert not list(tmp_path.rglob("best.ckpt"))


class LossElsewhere(torch.Tensor):
    """Of an accelerator: knowing its value means waiting for it."""

    is_cpu = False
    looked_at = 0

    def item(self) -> float:
        LossElsewhere.looked_at += 1
        return super().item()

    def tolist(self) -> list[float]:
        LossElsewhere.looked_at += 1
        return super().tolist()


def test_an_accelerator_is_not_waited_for_in_every_step():
    trainer = SimpleNamespace(
        global_step=0,
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.5}])],
        current_epoch=0,
        datamodule=SimpleNamespace(images_of_batch=lambda epoch, batch: torch.tensor([batch])),
    )
    check = FiniteLoss()
    for step in range(MAX_STEPS_AHEAD - 1):
        check.on_train_batch_start(trainer)
        trainer.global_step += 1
        loss = torch.tensor(1.0 if step != 6 else float("inf")).as_subclass(LossElsewhere)
        check.on_train_batch_end(trainer, None, {"loss": loss}, None, step)
    assert LossElsewhere.looked_at == 0
    with pytest.raises(WorkError, match=r"loss of step 7 is inf, at learning rate 0\.5, of .* images 6;"):
        check.on_train_end(trainer, None)
    assert LossElsewhere.looked_at == 1


def test_the_command_to_resume_can_be_pasted():
    stop = SignalStop()
    stop.checkpoint = Path("my runs/last.ckpt")
    with pytest.raises(Stopped) as stopped:
        stop.stop(SimpleNamespace(global_step=1417, is_global_zero=True))
    _, command = str(stopped.value).split("to resume: ")
    assert shlex.split(command)[-2:] == ["--ckpt_path", "my runs/last.ckpt"]
