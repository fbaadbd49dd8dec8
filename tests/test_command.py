"""command_line/command.py: a process ends soon, and nothing is lost by it."""

import subprocess
import sys

import pytest

BEGIN = "import atexit, sys, threading, time\nfrom fashion_lightning.command_line.command import run_process\n"


def run(code: str, **settings) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True, **settings)


def test_what_is_registered_for_the_end_is_done_and_all_that_was_printed_arrives():
    ended = run(
        "atexit.register(print, 'registered')\n"
        "def main():\n    print('printed', 'x' * 100_000)\n    print('said', file=sys.stderr)\n"
        "run_process(main)\nprint('not reached')"
    )
    assert ended.returncode == 0
    assert ended.stdout.split() == ["printed", "x" * 100_000, "registered"]
    assert ended.stderr == "said\n"


def test_other_threads_are_waited_for():
    code = "def work(): time.sleep(0.2); print('worked')\nrun_process(threading.Thread(target=work).start)"
    assert run(code).stdout == "worked\n"


def test_a_thread_pool_that_was_left_open_is_ended():
    code = "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor()\n"
    ended = run(code + "run_process(lambda: pool.submit(print, 'worked'))", timeout=20)
    assert (ended.returncode, ended.stdout) == (0, "worked\n")


def test_modules_are_not_taken_apart():
    code = "class Slow:\n    def __del__(self): print('taken apart')\nslow = Slow()\n"
    assert run(code).stdout == "taken apart\n"
    assert run(code + "run_process(lambda: None)").stdout == ""


@pytest.mark.parametrize(("end", "status"), [("sys.exit(2)", 2), ("sys.exit(143)", 143), ("sys.exit(0)", 0)])
def test_exit_status(end, status):
    assert run(f"def main(): {end}\nrun_process(main)").returncode == status


def test_another_end_is_pythons_own():
    ended = run("def main(): 1 / 0\nrun_process(main)")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback")
    assert "ZeroDivisionError" in ended.stderr
    ended = run("def main(): sys.exit('why')\nrun_process(main)")
    assert (ended.returncode, ended.stderr) == (1, "why\n")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_output_that_cannot_be_written_is_not_passed_over():
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", BEGIN + "run_process(lambda: print('x'))"], stdout=full, stderr=subprocess.PIPE
        )
    assert ended.returncode != 0
    assert b"No space left on device" in ended.stderr
