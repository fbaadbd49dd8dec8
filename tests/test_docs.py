"""The promise of the documentation: every command works as it stands, and every file and flag is there."""

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

from fashion_lightning import fit, study
from fashion_lightning.command_line import command

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks/README.md",
]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
README = TEXTS["README.md"]
FLAGS = [
    (job, flags)
    for page, text in TEXTS.items()
    for job in ("study" if "studies" in page else "fit",)
    for flags in re.findall(r"^\| `(--.*?)` \|", text, re.M)
]
# Minutes or more; they have tests of their own.
ELSEWHERE = {"python -m fashion_lightning.verify": "test_verify.py", "python -m benchmarks.": "test_benchmarks.py"}
ELSEWHERE |= {"make ": "test_setup.py", "tensorboard ": "test_tensorboard_starts"}
# What they show has tests of its own, too.
LONG = ("docs/processes.md", "docs/studies.md")


def commands(text: str) -> list[str]:
    return [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines()]


def jobs(text: str) -> list[str]:
    return [line for line in commands(text) if not line.startswith(tuple(ELSEWHERE))]


def test_all_commands_are_known_to_these_tests():
    every = [line for text in TEXTS.values() for line in jobs(text)]
    assert all(line.startswith("python -m fashion_lightning.") for line in every)
    assert len(every) > 12
    assert len(FLAGS) > 20
    assert "python -m fashion_lightning.verify" in commands(README)
    assert "make fit" in commands(README)
    assert README.count("\n") <= 200


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page in LONG else ()) for page, text in TEXTS.items() if jobs(text)],
)
def test_the_commands_work_one_after_the_other(page, tiny_args, monkeypatch, tmp_path):
    [network] = re.findall(r"```python\n# my_networks.py\n(.*?)```", README, re.S)
    (tmp_path / "my_networks.py").write_text(network)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wardrobe").mkdir()
    Image.linear_gradient("L").resize((28, 28)).save(tmp_path / "wardrobe" / "grey.png")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.setattr(command, "run_process", lambda main: main())  # which would end this process
    fit.main(tiny_args)
    for line in jobs(TEXTS[page]):
        module, *flags = shlex.split(line)[2:]
        tiny = tiny_args if module.endswith((".fit", ".study")) else []
        flags += ["--dry_run"] if module.endswith(".study") else []
        if "ddp" in flags:
            subprocess.run([sys.executable, "-m", module, *tiny, *flags], check=True, env=os.environ)
            continue
        monkeypatch.setattr(sys, "argv", [module, *tiny, *flags])
        monkeypatch.delitem(sys.modules, module, raising=False)
        runpy.run_module(module, run_name="__main__")
    assert len(list(Path("lightning_logs").iterdir())) == 1 + sum(
        ".fit" in line and "--resume" not in line for line in jobs(TEXTS[page])
    )


def test_links_and_the_named_folders_are_there():
    for page, text in TEXTS.items():
        folder = (ROOT / page).parent
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (folder / target).exists(), (page, target)
    [tree] = re.findall(r"```\n(fashion_lightning/ .*?)```", README, re.S)
    for line in tree.splitlines():
        folder = re.match(r"( *)(\S+)", line)
        assert (ROOT / ("fashion_lightning" if folder[1] else "") / folder[2]).is_dir(), line


def test_the_tests_named_as_guards_are_there():
    guards = re.findall(r"`(test_\w+\.py)::(test_\w+)`", TEXTS["docs/architecture.md"])
    assert len(guards) > 10
    for file, name in guards:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), (file, name)


@pytest.mark.parametrize(("job", "flags"), FLAGS)
def test_the_flags_are_accepted(job, flags, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my.yaml").write_text("trainer:\n  max_epochs: 3\n")
    with pytest.raises(SystemExit) as exit_:
        {"fit": fit, "study": study}[job].main([*shlex.split(flags), "--print_config"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out


def test_the_notebook_works(tiny_data, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(import pytorch_lightning.*?)```", README, re.S)
    tiny = f"FashionMNISTDataModule({str(tiny_data)!r}, eval_batch_size=16, verify=False)"
    exec(code.replace("FashionMNISTDataModule()", tiny), {})
    assert list(Path("lightning_logs").glob("version_0/checkpoints/*.ckpt"))


def test_tensorboard_starts(tiny_args):
    fit.main(tiny_args)
    [line] = [line for line in commands(README) if line.startswith("tensorboard")]
    program = Path(sys.executable).parent / "tensorboard"
    process = subprocess.Popen(
        [program, *shlex.split(line)[1:], "--port", "0"], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert any("http://localhost:" in line for line in process.stderr)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
