import pytest

from fashion_lightning.errors import CheckpointError
from fashion_lightning.storage.run_folders import Run, find_checkpoint, newest_run, run_of, runs


@pytest.fixture
def root(tmp_path):
    """Runs 2 and 10 are finished, run 11 was killed before its first checkpoint."""
    for run in ("version_2", "version_10"):
        (tmp_path / "lightning_logs" / run / "checkpoints").mkdir(parents=True)
        (tmp_path / "lightning_logs" / run / "config.yaml").touch()
        for name in ("best.ckpt", "last.ckpt"):
            (tmp_path / "lightning_logs" / run / "checkpoints" / name).touch()
    (tmp_path / "lightning_logs" / "version_11").mkdir()
    (tmp_path / "lightning_logs" / "notes").mkdir()
    return tmp_path


def test_runs_are_listed_by_number_newest_first(root):
    assert [run.number for run in runs(root)] == [11, 10, 2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("best", "version_10/checkpoints/best.ckpt"), ("last", "version_10/checkpoints/last.ckpt"), ("run:2", None)],
)
def test_finds_by_name(root, name, expected):
    assert find_checkpoint(name, root) == root / "lightning_logs" / (expected or "version_2/checkpoints/best.ckpt")


def test_training_resumes_from_the_last_of_a_run_or_the_one_before(root):
    checkpoints = root / "lightning_logs" / "version_2" / "checkpoints"
    assert find_checkpoint("run:2", root, of_run="last") == checkpoints / "last.ckpt"
    (checkpoints / "last.ckpt").rename(checkpoints / "previous.ckpt")
    assert find_checkpoint("run:2", root, of_run="last") == checkpoints / "previous.ckpt"


def test_finds_by_path_and_its_run(root):
    path = root / "lightning_logs" / "version_2" / "checkpoints" / "last.ckpt"
    assert find_checkpoint(str(path), root / "elsewhere") == path
    assert run_of(path).folder == root / "lightning_logs" / "version_2"
    assert run_of(root / "model.ckpt") is None


@pytest.mark.parametrize("name", ["run:11", "run:x", "no/such.ckpt", "https://example.org/model.ckpt"])
def test_says_what_there_is(root, name):
    with pytest.raises(CheckpointError, match=f"--ckpt_path {name}: expected .*version_10, version_2; to make one"):
        find_checkpoint(name, root)


def test_says_how_to_make_the_first(tmp_path):
    with pytest.raises(CheckpointError, match=r"none; to make one: python -m fashion_lightning\.fit"):
        find_checkpoint("best", tmp_path)


def test_the_newest_run_is_not_of_another_program(root):
    assert newest_run(root).number == 11  # without settings or checkpoints: killed at once
    (root / "lightning_logs" / "version_11" / "checkpoints").mkdir()
    (root / "lightning_logs" / "version_11" / "checkpoints" / "epoch=1.ckpt").touch()
    assert newest_run(root).number == 10
    assert newest_run(root / "elsewhere") is None


def test_a_run_names_its_files(tmp_path):
    run = Run(tmp_path / "version_7")
    names = ("config", "metrics", "results", "figures", "checkpoints", "best", "last", "previous")
    assert {str(getattr(run, name).relative_to(run.folder)) for name in names} == {
        *("config.yaml", "metrics.csv", "results.json", "figures", "checkpoints"),
        *(f"checkpoints/{name}.ckpt" for name in ("best", "last", "previous")),
    }
