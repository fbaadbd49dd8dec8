"""The promise of TensorBoard: what we write is on the page, in a real browser."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_lightning import fit
from fashion_lightning.reports.sessions import write_sessions
from fashion_lightning.storage.cells import Cell
from fashion_lightning.storage.study_folders import run_folder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")


@contextlib.contextmanager
def tensorboard(folder):
    """Address of a TensorBoard that shows it."""
    program = Path(sys.executable).parent / "tensorboard"
    command = [program, "--logdir", folder, "--port", "0", "--load_fast", "false"]
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


def shows(page, *words: str) -> None:
    for word in words:
        page.get_by_text(word, exact=False).first.wait_for(state="visible", timeout=30_000)


def test_charts_images_and_the_hparams_row_are_on_the_page(inspected_args, page):
    fit.main(inspected_args)
    with tensorboard("lightning_logs") as address:
        page.goto(f"{address}#custom_scalars")
        shows(page, "training and validation", "learning rate")
        page.goto(f"{address}#images")
        page.reload()
        shows(page, "confusion_matrix", "train_images")
        page.goto(f"{address}#hparams")
        page.reload()
        shows(page, "trained/test_accuracy", "trained/val_accuracy", "Identity")
        page.goto(f"{address}#scalars")
        page.reload()
        shows(page, "tag: train/loss", "tag: train/accuracy")


@pytest.mark.slow
def test_a_study_has_a_row_a_variant_on_the_page(tiny_args, page):
    cells = []
    for variant, lr in (("baseline", "0.01"), ("faster", "0.02")):
        for seed in ("0", "1"):
            run = run_folder(variant, int(seed))
            flags = ["--model.optimizer.lr", lr, "--seed_everything", seed]
            val = fit.main([*tiny_args, *flags, "--trainer.default_root_dir", str(run.parents[1])])["val"]
            cells.append(Cell(variant, int(seed), run, "finished", "", val["accuracy"], val["loss"], 1.0))
    write_sessions(Path("tensorboard"), cells, Path())
    with tensorboard("tensorboard") as address:
        page.goto(f"{address}#hparams")
        shows(page, "Trial ID", "baseline", "faster", "0.010000", "0.020000", "val_accuracy", "fit_seconds")
        page.goto(f"{address}#scalars")
        page.reload()
        shows(page, "baseline/seed_0", "faster/seed_1", "tag: train/loss")
