"""jobs/child_process.py: a command as a process of its own."""

import subprocess

import pytest

from fashion_lightning.errors import WorkError
from fashion_lightning.jobs import child_process


def start(tmp_path, code: str) -> subprocess.Popen:
    (tmp_path / "child.py").write_text(code)
    return child_process.start(["child", "argument"], {"PLACE": "here"}, folder=tmp_path)


def test_has_its_folder_arguments_variables_and_one_output(tmp_path):
    code = (
        "import os, sys\nprint(sys.argv[1], os.environ['PLACE'], os.getcwd(), flush=True)\nprint('e', file=sys.stderr)"
    )
    process = start(tmp_path, code)
    output, _ = process.communicate(timeout=60)
    child_process.check("child", process.returncode, output)
    assert output.decode() == f"argument here {tmp_path}\ne\n"


def test_a_failure_is_told_with_its_last_line(tmp_path):
    process = start(tmp_path, "import sys\nprint('first')\nsys.exit('error: out of luck')")
    output, _ = process.communicate(timeout=60)
    with pytest.raises(WorkError, match=r"^child ended with exit 1: out of luck$"):
        child_process.check("child", process.returncode, output)
