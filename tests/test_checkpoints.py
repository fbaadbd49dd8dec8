import pytest

from fashion_lightning import checkpoints
from fashion_lightning.checkpoints import CheckpointError, find, run_of


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
    assert [run.name for run in checkpoints.runs(root)] == ["version_11", "version_10", "version_2"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("best", "version_10/checkpoints/best.ckpt"),
        ("last", "version_10/checkpoints/last.ckpt"),
        ("run:2", None),
    ],
)
def test_finds_by_name(root, name, expected):
    assert find(name, root) == root / "lightning_logs" / (expected or "version_2/checkpoints/best.ckpt")


def test_training_goes_on_from_the_last_of_a_run_or_the_one_before(root):
    checkpoints = root / "lightning_logs" / "version_2" / "checkpoints"
    assert find("run:2", root, of_run="last") == checkpoints / "last.ckpt"
    (checkpoints / "last.ckpt").rename(checkpoints / "previous.ckpt")
    assert find("run:2", root, of_run="last") == checkpoints / "previous.ckpt"


def test_finds_by_path_and_its_run(root):
    path = root / "lightning_logs" / "version_2" / "checkpoints" / "last.ckpt"
    assert find(str(path), root / "elsewhere") == path
    assert run_of(path) == root / "lightning_logs" / "version_2"
    assert run_of(root / "model.ckpt") is None


@pytest.mark.parametrize("name", ["run:11", "run:x", "no/such.ckpt", "https://example.org/model.ckpt"])
def test_says_what_there_is(root, name):
    with pytest.raises(CheckpointError, match=f"--ckpt_path {name}: expected .*version_10, version_2; to make one"):
        find(name, root)


def test_says_how_to_make_the_first(tmp_path):
    with pytest.raises(CheckpointError, match=r"none; to make one: python -m fashion_lightning\.fit"):
        find("best", tmp_path)
