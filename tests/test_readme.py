"""The promise of the README: every command in it works as it stands."""

import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

from fashion_lightning import fit, process

TEXT = (ROOT / "README.md").read_text()
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
VERIFY = "python -m fashion_lightning.verify"  # half a minute; tests/test_verify.py does it
JOBS = [command for command in COMMANDS if command.startswith("python -m fashion_lightning.") and command != VERIFY]
FLAGS = re.findall(r"^\| `(--.*?)` \|", TEXT, re.M)


def test_all_commands_are_known_to_these_tests():
    others = {command for command in COMMANDS if command not in JOBS}
    assert {command for command in others if not command.startswith(("make ", "tensorboard "))} == {VERIFY}
    assert len(JOBS) > 5
    assert len(FLAGS) > 10


def test_the_commands_work_one_after_the_other(tiny_args, monkeypatch, tmp_path):
    [network] = re.findall(r"```python\n# my_networks.py\n(.*?)```", TEXT, re.S)
    (tmp_path / "my_networks.py").write_text(network)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wardrobe").mkdir()
    Image.new("L", (28, 28)).save(tmp_path / "wardrobe" / "black.png")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.setattr(process, "run", lambda main: main())  # or else it would end this one
    fit.main(tiny_args)
    for command in JOBS:
        module, *flags = shlex.split(command)[2:]
        tiny = tiny_args if module.endswith(".fit") else []
        if "ddp" in flags:
            subprocess.run([sys.executable, "-m", module, *tiny, *flags], check=True, env=os.environ)
            continue
        monkeypatch.setattr(sys, "argv", [module, *tiny, *flags])
        monkeypatch.delitem(sys.modules, module, raising=False)
        runpy.run_module(module, run_name="__main__")
    assert len(list(Path("lightning_logs").iterdir())) == 1 + sum(
        ".fit" in command and "--resume" not in command for command in JOBS
    )


@pytest.mark.parametrize("flags", FLAGS)
def test_the_flags_are_accepted(flags, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my.yaml").write_text("trainer:\n  max_epochs: 3\n")
    with pytest.raises(SystemExit) as exit_:
        fit.main([*shlex.split(flags), "--print_config"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out


def test_the_notebook_works(tiny_data, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(import pytorch_lightning.*?)```", TEXT, re.S)
    tiny = f"FashionMNISTDataModule({str(tiny_data)!r}, eval_batch_size=16, verify=False)"
    exec(code.replace("FashionMNISTDataModule()", tiny), {})
    assert list(Path("lightning_logs").glob("version_0/checkpoints/*.ckpt"))


def test_tensorboard_starts(tiny_args):
    fit.main(tiny_args)
    [command] = [command for command in COMMANDS if command.startswith("tensorboard")]
    program = Path(sys.executable).parent / "tensorboard"
    process = subprocess.Popen(
        [program, *shlex.split(command)[1:], "--port", "0"], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert any("http://localhost:" in line for line in process.stderr)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
