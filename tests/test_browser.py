"""The promise of TensorBoard: what we write is on the page, in a real browser."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_lightning import fit

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")


@pytest.fixture
def tensorboard(inspected_args):
    """Address of a TensorBoard that shows one run."""
    fit.main(inspected_args)
    program = Path(sys.executable).parent / "tensorboard"
    command = [program, "--logdir", "lightning_logs", "--port", "0", "--load_fast", "false"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        yield next(match[0] for line in process.stderr if (match := re.search(r"http://localhost:\d+/", line)))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def page():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page(viewport={"width": 1400, "height": 1000})
        browser.close()


def test_charts_images_and_the_hparams_row_are_on_the_page(tensorboard, page, tmp_path):
    def shows(*words: str) -> None:
        for word in words:
            page.get_by_text(word, exact=False).first.wait_for(state="visible", timeout=30_000)

    page.goto(f"{tensorboard}#custom_scalars")
    shows("training and validation", "learning rate")
    page.goto(f"{tensorboard}#images")
    page.reload()
    shows("confusion_matrix", "train_images")
    page.goto(f"{tensorboard}#hparams")
    page.reload()
    shows("trained/test_accuracy", "trained/val_accuracy", "Identity")
    page.goto(f"{tensorboard}#scalars")
    page.reload()
    shows("tag: train/loss", "tag: train/accuracy")
