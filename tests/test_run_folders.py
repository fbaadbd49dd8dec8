import pytest
from conftest import ROOT

from fashion_lightning.errors import CheckpointError
from fashion_lightning.storage.run_folders import MARK, Run, find_checkpoint, make_run, newest_run, run_of, runs

# What the `config.yaml` of another LightningCLI program may hold.
FOREIGN = (
    "# pytorch_lightning==2.6.6\nseed_everything: true\ntrainer:\n  max_epochs: 3\nmodel:\ndata:\n  batch_size: 8\n"
)


def make(root, number, config, *checkpoints):
    run = Run(root / "lightning_logs" / f"version_{number}")
    run.checkpoints.mkdir(parents=True)
    if config is not None:
        run.config.write_text(config)
    for name in checkpoints:
        (run.checkpoints / f"{name}.ckpt").touch()
    return run


@pytest.fixture
def root(tmp_path):
    """Runs 2 and 10 are finished, run 11 was killed before its first checkpoint; the newer ones are not ours."""
    for number in (2, 10):
        make(tmp_path, number, f"# {MARK}1.0\n", "best", "last")
    make(tmp_path, 11, f"# {MARK}1.0\n")
    make(tmp_path, 12, FOREIGN, "best", "epoch=1")
    make(tmp_path, 13, None)
    make(tmp_path, 14, "")
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
    assert newest_run(root).number == 11
    assert newest_run(root / "elsewhere") is None


def test_runs_of_older_versions_are_known_by_their_keys(root):
    old = (ROOT / "tests" / "old_run" / "config.yaml").read_text()
    assert MARK not in old
    assert make(root, 15, old).is_ours
    assert not make(root, 16, old.replace("inspect:", "inspection:")).is_ours


def test_another_program_s_checkpoints_are_not_found_by_number(root):
    with pytest.raises(CheckpointError, match=r"run:12: expected .*found no such file"):
        find_checkpoint("run:12", root)
    assert run_of(root / "lightning_logs" / "version_12" / "checkpoints" / "best.ckpt") is None


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (None, "no config.yaml"),
        ("", r"\S+/version_15/config\.yaml holds no settings of this program"),
        ("# pytorch_lightning==2.6.6\nseed_every", r"\S+/version_15/config\.yaml holds no settings of this program"),
    ],
)
def test_a_run_that_lost_its_settings_is_named_and_not_passed_over(config, problem, root):
    run = make(root, 15, config, "best", "previous", "last")
    remedy = f"restore that file, or name a checkpoint and the flags of the run: --ckpt_path {run.last}"
    for find in (newest_run, lambda root: find_checkpoint("run:15", root)):
        with pytest.raises(CheckpointError, match=f"version_15 has checkpoints, but {problem}: {remedy}"):
            find(root)
    assert find_checkpoint("best", root).parts[-3] == "version_10"


def test_a_new_run_has_a_number_that_nothing_has(root):
    assert [make_run(root).number for _ in range(2)] == [15, 16]
    assert make_run(root / "elsewhere").folder == root / "elsewhere" / "lightning_logs" / "version_0"


def test_a_number_taken_at_the_same_moment_is_left_to_the_other(root, monkeypatch):
    mkdir, raced = type(root).mkdir, []

    def slower(path, *args, **kwargs):
        if path.name == "version_15" and not raced:
            raced.append(path)
            mkdir(path)
        return mkdir(path, *args, **kwargs)

    monkeypatch.setattr(type(root), "mkdir", slower)
    assert make_run(root).number == 16


def test_a_run_names_its_files(tmp_path):
    run = Run(tmp_path / "version_7")
    names = ("config", "metrics", "results", "lock", "figures", "checkpoints", "best", "last", "previous")
    assert {str(getattr(run, name).relative_to(run.folder)) for name in names} == {
        *("config.yaml", "metrics.csv", "results.json", "fit.lock", "figures", "checkpoints"),
        *(f"checkpoints/{name}.ckpt" for name in ("best", "last", "previous")),
    }
