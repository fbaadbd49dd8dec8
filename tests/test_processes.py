"""The promise of several processes: trained together, evaluated exactly, and never one waiting for another for ever."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
from conftest import write_data, write_idx

from fashion_lightning import fit, test
from fashion_lightning.data.sampling import epoch_order, split_indices
from fashion_lightning.errors import UserError, reported
from fashion_lightning.jobs.fit import Fit
from fashion_lightning.reports.comparison import contents, different
from fashion_lightning.storage.run_folders import Run

TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]


@pytest.mark.slow
def test_two_processes_train_and_every_number_of_them_evaluates_alike(tiny_args, run_module, tmp_path):
    done = run_module("fit", *tiny_args, *TWO)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "2 processes" in done.stdout
    assert done.stdout.count("epoch 2/2") == 1
    results = json.loads((tmp_path / "lightning_logs" / "version_0" / "results.json").read_text())
    assert [results[split]["images"] for split in ("train", "val", "test")] == [200, 50, 203]
    assert results["images_per_second"] == pytest.approx(400 / results["fit_seconds"], rel=0.01)

    alone = test.main(["--trainer.devices", "1", "--trainer.strategy", "auto"])
    for split, values in alone.items():
        assert results[split]["accuracy"] == values["accuracy"]
        assert results[split]["loss"] == pytest.approx(values["loss"], rel=1e-12)


def test_a_batch_that_cannot_be_shared_is_refused_before_any_process_starts(tiny_args, tmp_path):
    assert forked.run(tmp_path, [*tiny_args, *TWO, "--data.batch_size", "25"]) == 2
    assert (tmp_path / "out").read_text() == ""
    error = (tmp_path / "err").read_text()
    assert error == "error: --data.batch_size: expected a multiple of the 2 processes, got 25\n"


@pytest.fixture(scope="session")
def numbered(tmp_path_factory) -> list[str]:
    """Flags for data whose images say their index in their first two pixels."""
    folder = write_data(tmp_path_factory.mktemp("numbered") / "data")
    images = np.frombuffer((folder / "train-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 28, 28).copy()
    images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(len(images)), 256)
    write_idx(folder / "train-images-idx3-ubyte", images)
    return [
        *("--data.data_dir", str(folder), "--data.verify", "false", "--trainer.accelerator", "cpu"),
        *("--data.batch_size", "20", "--data.eval_batch_size", "10", "--trainer.max_epochs", "2"),
        *("--inspect.figures", "false", "--inspect.graph", "false", "--resume"),
    ]


def record_order() -> None:
    """Appends the step and the images of every batch to `order<rank>`."""
    from fashion_lightning.classifier import FashionClassifier

    step = FashionClassifier.training_step

    def training_step(self, batch, batch_idx):
        pixels = ((batch[0][:, 0, 0, :2] * 0.5 + 0.5) * 255).round().int()
        indices = (pixels[:, 0] * 256 + pixels[:, 1]).tolist()
        with open(f"order{self.trainer.global_rank}", "a") as stream:
            stream.write(json.dumps([self.trainer.global_step, indices]) + "\n")
        return step(self, batch, batch_idx)

    FashionClassifier.training_step = training_step


def order(folder: Path, world_size: int) -> dict[int, list[int]]:
    """Step to the images of all ranks, rank after rank."""
    steps: dict[int, list[int]] = {}
    for rank in range(world_size):
        for line in (folder / f"order{rank}").read_text().splitlines():
            step, indices = json.loads(line)
            steps.setdefault(step, []).extend(indices)
        (folder / f"order{rank}").unlink()
    return steps


EXPECTED = [
    batch.tolist()
    for epoch in range(2)
    for batch in epoch_order(split_indices(250, seed=0, val_fraction=0.2)[0], seed=0, epoch=epoch).split(20)
]


@pytest.mark.parametrize("world_size", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_order_of_images_is_that_of_one_process(world_size, numbered, tmp_path):
    statuses = forked.run_ranks(tmp_path, numbered, world_size, patch=record_order)
    assert statuses == [0] * world_size, (tmp_path / "err").read_text()
    assert order(tmp_path, world_size) == dict(enumerate(EXPECTED))


@pytest.mark.parametrize(("before", "after"), [(2, 1), pytest.param(1, 4, marks=pytest.mark.slow)])
def test_another_number_of_processes_resumes_in_the_same_order(before, after, numbered, tmp_path):
    flags = ["--trainer.max_steps", "13"]
    assert forked.run_ranks(tmp_path, [*numbered, *flags], before, patch=record_order) == [0] * before
    assert order(tmp_path, before) == dict(enumerate(EXPECTED[:13]))
    statuses = forked.run_ranks(tmp_path, [*numbered, "--trainer.max_steps", "-1"], after, patch=record_order)
    assert statuses == [0] * after, (tmp_path / "err").read_text()
    assert order(tmp_path, after) == dict(enumerate(EXPECTED[13:], start=13))
    assert "warning: the last bits may differ" in (tmp_path / "err").read_text()


def record_counts() -> None:
    """Writes what a test came to into `splits.json`, and the confusion matrix of the test set into `confusion.npy`."""
    from fashion_lightning.jobs import test
    from fashion_lightning.reports import inspection

    count = inspection.multiclass_confusion_matrix

    def confusion_matrix(*args):
        counts = count(*args)
        np.save("confusion.npy", counts.numpy())
        return counts

    inspection.multiclass_confusion_matrix = confusion_matrix
    test.print_splits = lambda splits: Path("splits.json").write_text(json.dumps(splits))


def pad() -> None:
    """The sampler that Lightning would put in, which gives some images twice."""
    from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

    from fashion_lightning.data.module import FashionMNISTDataModule

    def evaluation_dataloader(self, split):
        images, labels = self.splits[split][:]
        subset, (rank, world_size) = TensorDataset(images, labels), self._rank_and_world_size()
        return DataLoader(subset, 10, sampler=DistributedSampler(subset, world_size, rank, shuffle=False))

    FashionMNISTDataModule.evaluation_dataloader = evaluation_dataloader
    record_counts()


@pytest.fixture(scope="session")
def trained(numbered, tmp_path_factory) -> Path:
    """The folder of a run that is good, but not perfect."""
    folder = tmp_path_factory.mktemp("trained")
    assert forked.run(folder, [*numbered, "--trainer.max_steps", "4"]) == 0
    return folder


def evaluate(trained: Path, data: Path, world_size: int, patch=record_counts) -> tuple[list[int], dict, np.ndarray]:
    args = ["--data.data_dir", str(data), "--data.match_checkpoint", "false"]
    for made in ("splits.json", "confusion.npy"):
        (trained / made).unlink(missing_ok=True)
    statuses = forked.run_ranks(trained, args, world_size, patch=patch, job="test")
    if any(statuses):
        return statuses, {}, np.zeros(())
    return statuses, json.loads((trained / "splits.json").read_text()), np.load(trained / "confusion.npy")


@pytest.mark.parametrize("images", [*(pytest.param(n, marks=pytest.mark.slow) for n in (199, 200, 10_000)), 203])
def test_evaluation_counts_the_same_for_every_number_of_processes(images, trained, tmp_path):
    data = write_data(tmp_path / "data", test=images)
    _, alone, counts = evaluate(trained, data, 1)
    assert counts.sum() == images
    assert alone["test"]["images"] == images
    assert counts.trace() == round(alone["test"]["accuracy"] * images)
    assert 0.1 < alone["test"]["accuracy"] < 1
    assert 0.1 < alone["val"]["temperature"] < 10
    for world_size in (2, 4):
        statuses, together, same_counts = evaluate(trained, data, world_size)
        assert statuses == [0] * world_size, (trained / "err").read_text()
        assert np.array_equal(counts, same_counts)
        for split in ("train", "val", "test"):
            assert (together[split]["accuracy"], together[split]["images"]) == (
                alone[split]["accuracy"],
                alone[split]["images"],
            )
            assert together[split]["loss"] == pytest.approx(alone[split]["loss"], rel=1e-12)
        assert together["val"]["temperature"] == pytest.approx(alone["val"]["temperature"], rel=1e-9)
        for split in ("val", "test"):
            for name in ("calibration_error", "calibration_error_scaled"):
                assert together[split][name] == pytest.approx(alone[split][name], rel=1e-5)


def test_a_padding_sampler_would_be_found(trained, tmp_path):
    statuses, *_ = evaluate(trained, write_data(tmp_path / "data", test=203), 2, patch=pad)
    assert all(statuses)
    assert "expected to evaluate 203 images of test, got 204" in (trained / "err").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn"])
def test_processes_that_multiprocessing_starts_leave_the_same_run(strategy, numbered, tmp_path):
    args = [*numbered, "--inspect.figures", "true", "--trainer.max_epochs", "1"]
    assert forked.run_ranks(tmp_path / "ddp", args, 2) == [0, 0]
    status = forked.run(tmp_path / strategy, [*args, "--trainer.devices", "2", "--trainer.strategy", strategy])
    assert (status, (tmp_path / strategy / "err").read_text()) == (0, "")
    runs = [Run(tmp_path / name / "lightning_logs" / "version_0") for name in ("ddp", strategy)]
    assert different(contents(runs[0]), contents(runs[1])) == []
    drawn = [sorted(path.name for path in run.figures.iterdir()) for run in runs]
    assert drawn[0] == drawn[1]
    shown = [(tmp_path / name / "out").read_text().splitlines() for name in ("ddp", strategy)]
    assert shown[1][:5] == shown[0][:5]  # up to the rows, which have times
    assert len(shown[1]) == len(shown[0])

    (tmp_path / strategy / "out").unlink()
    assert forked.run(tmp_path / strategy, ["--ckpt_path", "best"], job="test") == 0
    table = [line for line in shown[0] if line.startswith(("train ", "val ", "test "))]
    assert table == [line for line in (tmp_path / strategy / "out").read_text().splitlines() if line in table]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_notebook"])
def test_a_fork_does_not_wait_for_threads_that_it_does_not_have(strategy, numbered, run_module, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    more = ["--trainer.max_steps", "2", "--trainer.devices", "2", "--trainer.strategy", strategy]
    done = run_module("fit", *numbered, *more)
    assert (done.returncode, done.stderr) == (0, "")
    assert "device   cpu (2 threads, 2 processes)\n" in done.stdout


def hide() -> None:
    """Gives the model what cannot be pickled."""
    from fashion_lightning.classifier import FashionClassifier

    FashionClassifier.__getstate__ = lambda self: {"hidden": lambda: None}


def refuse() -> None:
    from fashion_lightning.errors import UserError
    from fashion_lightning.training.record import RunRecord

    RunRecord.on_fit_start = lambda *args: (_ for _ in ()).throw(UserError("refused"))


def die_in_the_second() -> None:
    from fashion_lightning.classifier import FashionClassifier

    step = FashionClassifier.training_step

    def training_step(self, batch, batch_idx):
        if os.environ["LOCAL_RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, batch_idx)

    FashionClassifier.training_step = training_step


@pytest.mark.parametrize(
    ("patch", "status", "message"),
    [
        (hide, 2, "error: --trainer.strategy: expected ddp, "),
        (refuse, 2, "error: refused"),
        (die_in_the_second, 1, "error: SIGKILL ended a process"),
    ],
)
def test_what_goes_wrong_in_processes_of_multiprocessing_is_said_once(patch, status, message, numbered, tmp_path):
    args = [*numbered, "--trainer.devices", "2", "--trainer.strategy", "ddp_fork"]
    assert forked.run(tmp_path, args, patch=patch) == status
    assert message in (tmp_path / "err").read_text()
    assert (tmp_path / "err").read_text().count("error:") == 1


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_failing_process_ends_the_run_with_its_message(rank, tiny_args, run_module, tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text(
        "import os\nfrom torch import nn\n"
        "class Failing(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(784, 10))\n"
        "    def forward(self, images):\n"
        "        if self.training and os.environ['LOCAL_RANK'] == os.environ['FAILS']:\n"
        "            raise RuntimeError('out of luck')\n"
        "        return super().forward(images)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FAILS", rank)
    done = run_module("fit", *tiny_args, *TWO, "--model.network", "failing.Failing", timeout=60)
    assert done.returncode not in (0, 2)
    assert "RuntimeError: out of luck" in done.stderr


def test_missing_data_are_said_once_and_before_any_process_starts(tiny_args, tmp_path):
    assert forked.run(tmp_path, [*tiny_args, *TWO, "--data.data_dir", "nowhere"]) == 2
    assert (tmp_path / "out").read_text() == ""
    [line] = (tmp_path / "err").read_text().splitlines()
    assert re.match(r"error: expected train-images-idx3-ubyte, .* in nowhere/, found none", line)


SLURM = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "fit"}
SLURM |= {"SLURM_NODELIST": "here", "SLURM_NODEID": "0"}
SECOND = {"SLURM_PROCID": "1", "SLURM_LOCALID": "1"}
INTERACTIVE = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "bash", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("env", "speaks"), [({}, True), (SECOND, False), (INTERACTIVE, True), ({**INTERACTIVE, "LOCAL_RANK": "1"}, False)]
)
def test_one_process_of_a_machine_says_what_is_wrong(env, speaks, monkeypatch, capsys):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"), reported():
        raise UserError("wrong")
    assert capsys.readouterr().err == ("error: wrong\n" if speaks else "")


@pytest.mark.parametrize(
    ("env", "loads"),
    [
        (INTERACTIVE, True),
        ({**INTERACTIVE, "LOCAL_RANK": "1"}, False),
        ({**SLURM, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, False),
        ({**SLURM, **SECOND}, False),
    ],
)
def test_a_process_that_slurm_or_lightning_started_does_not_load_data_early(env, loads, tiny_args, monkeypatch):
    monkeypatch.setattr(Fit, "run", lambda job: job)  # as far as an error has exit status 2
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    job = fit.main([*tiny_args, *TWO])
    assert job.trainer.world_size == 2
    assert ("splits" in vars(job.data)) == loads


def data_are_gone_for_the_first() -> None:
    from fashion_lightning.data import files
    from fashion_lightning.errors import UserError

    if os.environ["RANK"] == "0":
        files.load = lambda *args: (_ for _ in ()).throw(UserError("the disk is gone"))


def test_data_that_fail_in_the_first_process_end_all(numbered, tmp_path):
    statuses = forked.run_ranks(tmp_path, numbered, 2, patch=data_are_gone_for_the_first)
    assert statuses[0] == 2
    assert statuses[1] != 0
    assert (tmp_path / "err").read_text() == "error: the disk is gone\n"


@pytest.mark.slow
def test_two_machines_by_torchrun(tiny_args, tmp_path):
    """Two agents, each as on a machine of its own."""
    flags = ["--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.strategy", "ddp"]
    with forked.reserved_port() as port:
        agents = [
            subprocess.Popen(
                [
                    *(str(Path(sys.executable).parent / "torchrun"), "--nnodes", "2", "--nproc_per_node", "1"),
                    *("--node_rank", str(rank), "--master_addr", "127.0.0.1", "--master_port", port),
                    *("-m", "fashion_lightning.fit", *tiny_args, *flags),
                ],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        try:
            shown = [agent.communicate(timeout=120) for agent in agents]
        finally:
            for agent in agents:
                agent.send_signal(signal.SIGKILL)
    assert [agent.returncode for agent in agents] == [0, 0], shown
    assert "2 processes" in shown[0][0]
    assert "epoch" not in shown[1][0]
    results = json.loads((tmp_path / "lightning_logs" / "version_0" / "results.json").read_text())
    assert [results[split]["images"] for split in ("train", "val", "test")] == [200, 50, 203]
