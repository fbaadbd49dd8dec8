"""The promise of checkpoints: there is always a whole one, whatever happens while the next is written."""

import errno
import os
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import forked
import pytest
import torch

from fashion_lightning import fit, test
from fashion_lightning.errors import CheckpointError
from fashion_lightning.reports.comparison import contents, different
from fashion_lightning.storage.checkpoints import DurableCheckpointIO, read
from fashion_lightning.storage.run_folders import Run
from fashion_lightning.storage.whole_files import replacing

RUN = Path("lightning_logs/version_0")


def test_a_file_is_replaced_whole(tmp_path):
    path, previous = tmp_path / "new" / "file", tmp_path / "new" / "before"
    for content in (b"one", b"two", b"three"):
        with replacing(path, previous) as stream:
            stream.write(content)
            assert not path.exists() or path.read_bytes() != content
    assert (path.read_bytes(), previous.read_bytes()) == (b"three", b"two")
    with pytest.raises(KeyboardInterrupt), replacing(path, previous) as stream:
        raise KeyboardInterrupt(stream.write(b"four"))
    assert (path.read_bytes(), previous.read_bytes()) == (b"three", b"two")
    assert sorted(file.name for file in path.parent.iterdir()) == ["before", "file"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    events: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: events.append(os.readlink(f"/proc/self/fd/{fd}")) or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda old, new: events.append(f"{old} -> {new}") or replace(old, new))
    with replacing(tmp_path / "file") as stream:
        stream.write(b"content")
    part = f"{tmp_path}/file.part"
    assert events == [part, f"{part} -> {tmp_path}/file", str(tmp_path)]


def test_what_is_written_is_read_and_the_one_before_is_kept(tmp_path):
    io = DurableCheckpointIO()
    for step in (1, 2, 3):
        for name in ("best.ckpt", "last.ckpt"):
            io.save_checkpoint({"state_dict": {"w": torch.full((3,), step)}}, tmp_path / "checkpoints" / name)
    paths = (tmp_path / "checkpoints").iterdir()
    found = {path.name: io.load_checkpoint(path)["state_dict"]["w"][0].item() for path in paths}
    assert found == {"best.ckpt": 3, "last.ckpt": 3, "previous.ckpt": 2}


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "foreign", "another program's", "a flipped bit"])
def test_every_damage_is_found_and_the_good_ones_are_named(damage, tmp_path):
    io = DurableCheckpointIO()
    path = tmp_path / "checkpoints" / "last.ckpt"
    for step in (1, 2):
        io.save_checkpoint({"state_dict": {"w": torch.full((1000,), step)}}, path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(torch.full((1000,), 2).numpy().tobytes()) + 17] ^= 4
    if damage in ("foreign", "another program's"):
        torch.save([1, 2] if damage == "foreign" else {"model": torch.ones(2)}, path)
    else:
        path.write_bytes(
            {"truncated": whole[:-100], "empty": b"", "text": b"hello\n", "a flipped bit": bytes(flipped)}[damage]
        )
    if damage == "a flipped bit":
        assert torch.load(path, weights_only=True)["state_dict"]["w"].sum() != 2000  # which says nothing
    with pytest.raises(
        CheckpointError, match=r"last.ckpt is not a whole checkpoint \(.+\): .*beside it: .*previous.ckpt"
    ):
        read(path)


def fill_the_disk(disk: Path, left: int) -> None:
    """From the fourth save on there is too little space for a checkpoint, though maybe enough for logs."""
    from fashion_lightning.training import checkpointing

    save, calls = checkpointing.Checkpointing._save, 0

    def full(self, *args):
        nonlocal calls
        calls += 1
        if calls == 4:
            free = shutil.disk_usage(disk).free
            (disk / "ballast").write_bytes(bytes(free - left))
        save(self, *args)

    checkpointing.Checkpointing._save = full


def test_a_full_disk_costs_no_save_before_it(tiny_args, small_disk, tmp_path):
    assert forked.run(small_disk, [*tiny_args, "--resume"], patch=partial(fill_the_disk, small_disk, left=400_000)) == 1
    warning, error = (small_disk / "err").read_text().splitlines()
    assert re.fullmatch(
        r"warning: cannot save lightning_logs/version_0/checkpoints/\w+\.ckpt: No space left on device, "
        r"[\d,]+ bytes free, [\d,]+ needed; training continues, the checkpoint before it is kept",
        warning,
    )
    assert error.startswith("error: cannot save lightning_logs/version_0/checkpoints/")
    assert "epoch 2/2" in (small_disk / "out").read_text()
    assert read(small_disk / RUN / "checkpoints" / "last.ckpt").content["global_step"] == 7
    assert not list(small_disk.rglob("*.part"))
    (small_disk / "ballast").unlink()
    assert forked.run(small_disk, [*tiny_args, "--resume"]) == 0
    assert "resume      after step 7\n" in (small_disk / "out").read_text()
    assert forked.run(tmp_path / "whole", tiny_args) == 0
    assert different(contents(Run(small_disk / RUN)), contents(Run(tmp_path / "whole" / RUN))) == []


@pytest.mark.parametrize("logger", ["true", "false"])
def test_a_disk_without_a_single_byte_costs_no_save_before_it(logger, tiny_args, small_disk, tmp_path):
    args = [*tiny_args, "--resume", "--trainer.default_root_dir", str(small_disk), "--trainer.logger", logger]
    assert forked.run(tmp_path, args, patch=partial(fill_the_disk, small_disk, left=0)) == 1
    printed = (tmp_path / "err").read_text()
    lines = printed.splitlines()
    assert lines[0].startswith(f"warning: cannot save {small_disk}")
    assert "error: No space left on device: free some space, then use --resume" in printed
    if logger == "false":  # TensorBoard's thread cannot be kept from saying it too, in the middle of a line
        assert lines[-1].startswith("error: ")
        assert all(line.startswith("warning: cannot ") for line in lines[:-1])
    assert read(small_disk / RUN / "checkpoints" / "last.ckpt").content["global_step"] == 7


@pytest.mark.parametrize(("job", "remedy"), [(fit, "use --resume"), (test, "try again")])
def test_the_remedy_for_a_full_disk_fits_the_command(job, remedy, tiny_args, monkeypatch, capsys):
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])

    def full(*args):
        raise OSError(errno.ENOSPC, "no space")

    (RUN / "results.json").unlink()  # the run was killed before they were written
    monkeypatch.setattr(f"{job.__name__.replace('lightning.', 'lightning.jobs.')}.evaluate", full)
    with pytest.raises(SystemExit) as exit_:
        job.main(["--ckpt_path", "run:0"])
    assert exit_.value.code == 1
    assert capsys.readouterr().err == f"error: No space left on device: free some space, then {remedy}\n"


@pytest.mark.parametrize("root", ["/proc/nowhere", "file/in/the/way"])
def test_a_folder_that_cannot_be_written_is_found_before_training(root, tiny_args, tmp_path):
    (tmp_path / "file").touch()
    assert forked.run(tmp_path, [*tiny_args, "--trainer.default_root_dir", root]) == 2
    [line] = (tmp_path / "err").read_text().splitlines()
    assert line.startswith("error: --trainer.default_root_dir: expected a folder to write to, but ")
    assert (tmp_path / "out").read_text() == ""


def test_temporaries_lie_beside_what_they_become(tiny_args, tmp_path):
    nowhere = {"TMPDIR": str(tmp_path / "nowhere")}
    status = forked.run(tmp_path, [*tiny_args, "--resume"], kill=("os.fsync", 5, "half"), env=nowhere)
    assert status == -9
    [part] = tmp_path.rglob("*.part")
    assert part.parent == tmp_path / RUN / "checkpoints"
    assert forked.run(tmp_path, [*tiny_args, "--resume"], env=nowhere) == 0
    assert not list(tmp_path.rglob("*.part"))
