"""jobs/tied.py: a command that ends with the process that started it, in real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fashion_lightning.jobs import child_process

CHILD = """
import sys, time
print(sys.argv[1:], __name__, sys.modules["__main__"].__spec__.name, flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(7)
"""
PARENT = """
import sys, time
from pathlib import Path
from fashion_lightning.jobs.child_process import start_tied
print(start_tied(["child", "60"], {}, Path("log")).pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def child(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("child.py").write_text(CHILD)


def test_it_is_the_command_with_its_arguments_name_and_status(child):
    process = child_process.start_tied(["child", "0", "--flag"], {}, Path("log"))
    assert process.wait(timeout=30) == 7
    process.stdin.close()
    assert Path("log").read_text() == "['0', '--flag'] __main__ child\n"


def test_its_group_is_its_own_so_that_ctrl_c_reaches_the_parent_alone(child):
    process = child_process.start_tied(["child", "60"], {}, Path("log"))
    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    process.stdin.close()  # as the system does when a process ends
    assert process.wait(timeout=30) == -signal.SIGTERM


def test_it_ends_when_its_parent_is_killed(child):
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        while not Path("log").exists() or not Path("log").read_text():
            time.sleep(0.05)
        parent.kill()
    end = time.monotonic() + 2
    while time.monotonic() < end and Path(f"/proc/{pid}").exists() and not is_zombie(pid):
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists() or is_zombie(pid)


def is_zombie(pid: int) -> bool:
    """Where nothing waits for orphans, as in some containers."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
