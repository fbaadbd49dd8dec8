"""The promise of run folders: one fit at a time, none of another program, and no trace of a start that failed."""

import os
import shutil
import signal
import socket
import time
from functools import partial
from pathlib import Path

import forked
import pytest
from pytorch_lightning.loggers.logger import DummyLogger

from fashion_lightning import fit, runs, test
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.errors import UserError
from fashion_lightning.storage import locking
from fashion_lightning.storage.locking import is_locked, locked
from fashion_lightning.storage.run_folders import Run
from fashion_lightning.training.record import RunRecord
from fashion_lightning.training.resuming import ExactResume

RUN = Path("lightning_logs/version_0")


def contents(folder: Path) -> dict[Path, bytes]:
    paths = [path for path in folder.rglob("*") if path.name != "fit.lock"]
    return {path: path.read_bytes() if path.is_file() else b"" for path in paths}


def sleep_in_step_5() -> None:
    step = FashionClassifier.training_step

    def training_step(self, batch, batch_idx):
        if self.trainer.global_step == 4:
            Path("asleep").touch()
            time.sleep(600)
        return step(self, batch, batch_idx)

    FashionClassifier.training_step = training_step


def start_asleep(folder: Path, args: list[str]):
    """A fit that has a checkpoint and does not go on."""
    process = forked.start(folder, args, patch=sleep_in_step_5)
    while not (folder / "asleep").exists():
        assert process.is_alive(), (folder / "err").read_text()
        time.sleep(0.01)
    return process


def test_a_second_fit_in_a_folder_is_refused_until_the_first_has_ended(tiny_args, tmp_path, capsys):
    process = start_asleep(tmp_path, tiny_args)
    before = contents(tmp_path / RUN)
    for flags in (["--resume"], ["--ckpt_path", f"{RUN}/checkpoints/last.ckpt"]):
        assert forked.run(tmp_path, [*tiny_args, *flags]) == 2
        assert (tmp_path / "out").read_text() == ""
        error = f"error: {RUN} is in use by the fit with process id {process.pid}: wait for it or stop it, or "
        assert (tmp_path / "err").read_text() == f"{error}start another fit\n"
    assert contents(tmp_path / RUN) == before
    assert [row["status"] for row in runs.main([])] == ["running"]
    assert test.main(["--ckpt_path", f"{RUN}/checkpoints/last.ckpt"])["test"]["images"] == 203

    process.kill()
    process.join()
    assert [row["status"] for row in runs.main([])] == ["unfinished"]
    before = contents(tmp_path / RUN)
    assert forked.run(tmp_path, [*tiny_args, "--resume", "--seed_everything", "1"]) == 2
    assert contents(tmp_path / RUN) == before
    assert forked.run(tmp_path, [*tiny_args, "--resume"]) == 0, (tmp_path / "err").read_text()
    assert not (tmp_path / RUN / "fit.lock").exists()


def list_runs_together() -> None:
    """Two processes know the same runs before either makes a new one."""
    from fashion_lightning.storage import run_folders

    numbered = run_folders._numbered

    def slower(root):
        found = numbered(root)
        Path(f"listed{os.getpid()}").touch()
        while len(list(Path().glob("listed*"))) < 2:
            time.sleep(0.01)
        return found

    run_folders._numbered = slower


def test_two_fits_that_start_together_have_two_folders(tiny_args, tmp_path):
    processes = [forked.start(tmp_path, tiny_args, patch=list_runs_together) for _ in range(2)]
    assert [forked.wait(process) for process in processes] == [0, 0], (tmp_path / "err").read_text()
    folders = sorted((tmp_path / "lightning_logs").iterdir())
    assert [folder.name for folder in folders] == ["version_0", "version_1"]
    assert all(Run(folder).results.is_file() for folder in folders)


def write_holder() -> None:
    """Appends who holds the lock in the third step to `holders`, from each process."""
    step = FashionClassifier.training_step

    def training_step(self, batch, batch_idx):
        if self.trainer.global_step == 2:
            pid = Run(RUN).lock.read_text().split()[0] if is_locked(Run(RUN).lock) else "nobody"
            with open("holders", "a") as stream:
                stream.write(f"{self.trainer.global_rank} {pid == str(os.getpid())}\n")
        return step(self, batch, batch_idx)

    FashionClassifier.training_step = training_step


def test_the_first_of_several_processes_holds_the_folder(tiny_args, tmp_path):
    assert forked.run_ranks(tmp_path, [*tiny_args, "--resume"], 2, patch=write_holder) == [0, 0]
    assert sorted((tmp_path / "holders").read_text().splitlines()) == ["0 True", "1 False"]
    assert [path.name for path in (tmp_path / "lightning_logs").iterdir()] == ["version_0"]


def test_a_folder_of_the_user_s_own_logger_has_one_fit_too(tiny_args, tmp_path):
    flags = ["TensorBoardLogger", "--trainer.logger.save_dir", ".", "--trainer.logger.version", "mine"]
    folder = tmp_path / "lightning_logs" / "mine"
    folder.mkdir(parents=True)
    with locked(Run(folder).lock):
        assert forked.run(tmp_path, [*tiny_args, "--trainer.logger", *flags]) == 2
        assert (
            f"lightning_logs/mine is in use by the fit with process id {os.getpid()}:" in (tmp_path / "err").read_text()
        )
    assert contents(folder) == {}
    (folder / "config.yaml").write_text("trainer: {}\n")
    assert forked.run(tmp_path, [*tiny_args, "--trainer.logger", *flags]) == 2
    assert "lightning_logs/mine are other files" in (tmp_path / "err").read_text()
    assert contents(folder) == {folder / "config.yaml": b"trainer: {}\n"}


def test_a_lock_names_another_host_and_leaves_that_of_another_fit(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.lock.write_text("77 elsewhere\n")  # which a killed holder left
    with locked(run.lock):
        assert run.lock.read_text() == f"{os.getpid()} {socket.gethostname()}\n"
        monkeypatch.setattr(socket, "gethostname", lambda: "here")
        with pytest.raises(UserError, match=rf"process id {os.getpid()} on \S+: wait"), locked(run.lock):
            pass
    assert not run.lock.exists()
    with locked(run.lock):
        run.lock.unlink()  # with the folder, after a start that failed
        with locked(run.lock):
            pass
        run.lock.write_text("of another fit that has made the folder again")
    assert run.lock.exists()


def end_another_fit_while_this_one_starts() -> None:
    from fashion_lightning.command_line import build

    make = build.fit

    def fit(settings):
        os.utime(Run(RUN).last, ns=(0, 1))
        return make(settings)

    build.fit = fit


def test_a_checkpoint_that_was_replaced_meanwhile_is_not_resumed(killed, tmp_path):
    folder, args = killed
    shutil.copytree(folder, tmp_path / "resumed")
    before = contents(tmp_path / "resumed" / RUN)
    patch = end_another_fit_while_this_one_starts
    assert forked.run(tmp_path / "resumed", [*args, "--resume"], patch=patch) == 2
    error = (tmp_path / "resumed" / "err").read_text()
    assert (
        error
        == f"error: {RUN}/checkpoints/last.ckpt was replaced by another fit while this one started: start it again\n"
    )
    assert contents(tmp_path / "resumed" / RUN) == before


def test_a_closed_standard_input_is_no_other_fit(tiny_args, tmp_path):
    assert forked.run(tmp_path, [*tiny_args, "--trainer.max_epochs", "1"], patch=partial(os.close, 0)) == 0


class Own(DummyLogger):
    """A user's own, whose folder is the current one, as of some services."""

    @property
    def save_dir(self) -> str:
        return "."


@pytest.mark.parametrize("fails", [False, True])
def test_files_beside_which_a_logger_writes_are_not_touched(fails, tiny_args, tmp_path):
    for name in ("results.json", "metrics.csv", "config.yaml"):
        (tmp_path / name).write_text(name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    args = [*tiny_args, "--trainer.logger", f"{__name__}.Own"]
    status = forked.run(tmp_path, args, patch=raise_in_training if fails else None)
    assert status == (1 if fails else 0), (tmp_path / "err").read_text()
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert (tmp_path / RUN / "results.json").is_file() != fails


def test_a_folder_given_to_a_logger_has_to_be_free(tiny_args, capsys):
    Path("mine/version_3").mkdir(parents=True)
    Path("mine/version_3/notes.txt").touch()
    logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=.", "--trainer.logger.name=mine"]
    with pytest.raises(SystemExit, match="2"):
        fit.main([*tiny_args, *logger, "--trainer.logger.version=3"])
    assert "--trainer.logger: expected a folder of its own, but in " in capsys.readouterr().err


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def flock(*args):
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(locking.fcntl, "flock", flock)
    with pytest.warns(UserWarning, match=r"cannot lock .* \(Function not implemented\)"), locked(Run(tmp_path).lock):
        assert not is_locked(Run(tmp_path).lock)


def test_a_folder_of_another_program_is_not_a_run(tiny_args):
    foreign = Path("lightning_logs/version_13")
    (foreign / "checkpoints").mkdir(parents=True)
    for name in ("metrics.csv", "events.out.tfevents.1.host.2.0", "hparams.yaml", "checkpoints/epoch=1-step=2.ckpt"):
        (foreign / name).write_bytes(name.encode())
    (foreign / "config.yaml").write_text("# pytorch_lightning==2.6.6\nseed_everything: true\ntrainer:\nmodel:\n")
    Path("lightning_logs/version_14").mkdir()
    before = contents(foreign)
    fit.main([*tiny_args, "--resume"])
    assert contents(foreign) == before
    assert [row["run"] for row in runs.main([])] == ["version_15"]
    assert not list(Path("lightning_logs/version_14").iterdir())


def test_settings_that_cannot_be_used_are_named_by_their_file(tiny_args, capsys):
    fit.main(tiny_args)
    config = RUN / "config.yaml"
    whole = config.read_text()
    for content in (f"{whole[:200]}\n  x: [", whole.replace("seed_everything: 0", "seed_everything: x")):
        config.write_text(content)
        before = contents(RUN)
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            fit.main(["--resume"])
        assert exit_.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: cannot use the settings in {config}: ")
        assert contents(RUN) == before


def raise_in_training() -> None:
    FashionClassifier.training_step = lambda *args: [].pop()


def interrupt_before_training() -> None:
    RunRecord.on_fit_start = lambda *args: signal.raise_signal(signal.SIGINT)


def terminate_before_the_launch() -> None:
    from pytorch_lightning import Trainer

    Trainer.fit = lambda *args, **kwargs: signal.raise_signal(signal.SIGTERM)


def terminate_before_the_first_step() -> None:
    ExactResume.on_train_batch_start = lambda *args: signal.raise_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def killed(tiny_data, tmp_path_factory) -> tuple[Path, list[str]]:
    """A folder with a killed run, and the flags of it."""
    folder = tmp_path_factory.mktemp("killed")
    args = ["--data.data_dir", str(tiny_data), "--data.verify", "false", "--trainer.accelerator", "cpu"]
    args += ["--data.batch_size", "20", "--trainer.max_epochs", "2"]
    assert forked.run(folder, args, kill=("torch.optim.Adam.step", 6, "after")) == -9
    (folder / RUN / "checkpoints" / "last.ckpt.part").write_bytes(b"half")
    return folder, args


@pytest.mark.parametrize(
    ("patch", "status"),
    [
        (raise_in_training, 1),
        (interrupt_before_training, 130),
        (terminate_before_the_launch, 143),
        (terminate_before_the_first_step, 143),
    ],
)
def test_a_start_that_fails_leaves_everything_as_it_was(patch, status, killed, tmp_path):
    folder, args = killed
    assert forked.run(tmp_path / "new", args, patch=patch) == status
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["err", "out"]
    assert "--ckpt_path" not in (tmp_path / "new" / "err").read_text()
    shutil.copytree(folder, tmp_path / "resumed")
    before = contents(tmp_path / "resumed" / RUN)
    assert forked.run(tmp_path / "resumed", [*args, "--resume"], patch=patch) == status
    assert contents(tmp_path / "resumed" / RUN) == before
    assert "--ckpt_path" not in (tmp_path / "resumed" / "err").read_text()


def raise_in_the_second_step() -> None:
    step = FashionClassifier.training_step
    FashionClassifier.training_step = lambda self, *args: (
        step(self, *args) if not self.trainer.global_step else [].pop()
    )


def test_after_the_first_step_nothing_is_removed(killed, tmp_path):
    assert forked.run(tmp_path, killed[1], patch=raise_in_the_second_step) == 1
    assert (tmp_path / RUN / "config.yaml").is_file()
    assert (tmp_path / RUN / "checkpoints" / "last.ckpt").is_file()
