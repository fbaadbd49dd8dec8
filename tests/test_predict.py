"""The promise of predictions: on the user's own files, as `test` would have it."""

import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from torchvision.transforms.functional import pil_to_tensor

from fashion_lightning import predict
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.command_line import checks
from fashion_lightning.data import photographs
from fashion_lightning.data.module import normalize
from fashion_lightning.errors import UserError
from fashion_lightning.jobs import predict as predict_job
from fashion_lightning.reports import results, screen, sheet


def test_writes_the_same_for_people_and_programs(wardrobe, capsys):
    rows = predict.main([str(wardrobe), "--out", "p.JSON", "--sheet", "sheet.png"])
    shown = capsys.readouterr().out
    assert json.loads(Path("p.JSON").read_text()) == rows
    predict.main([str(wardrobe), "--out", "p.csv"])
    table = list(csv.DictReader(Path("p.csv").read_text().splitlines()))
    for row, line in zip(rows, table, strict=True):
        assert row["file"] == line["file"]
        for n, best in enumerate(row["top"], 1):
            assert line[f"class_{n}"] == best["class"]
            assert float(line[f"probability_{n}"]) == best["probability"]
        probabilities = [best["probability"] for best in row["top"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert f"{row['top'][0]['probability']:.1%}" in shown
    with Image.open("sheet.png") as sheet:
        assert sheet.size[0] > 400
    assert "version_0/checkpoints/best.ckpt" in shown


@pytest.mark.parametrize(("temperature", "is_faint", "uncertain"), [(0.1, True, "garment"), (10.0, False, "classes")])
def test_probabilities_are_of_logits_over_the_temperature(wardrobe, temperature, is_faint, uncertain, monkeypatch):
    path = Path("lightning_logs/version_0/results.json")
    content = json.loads(path.read_text())
    content["val"]["temperature"] = temperature
    path.write_text(json.dumps(content))
    prepare = photographs.prepare
    monkeypatch.setattr(photographs, "prepare", lambda picture: replace(prepare(picture), is_faint=is_faint))
    [row] = predict.main([str(wardrobe / "0.png")])
    with Image.open(wardrobe / "0.png") as image, torch.no_grad():
        model = FashionClassifier.load_from_checkpoint("lightning_logs/version_0/checkpoints/best.ckpt").eval()
        logits = model(normalize(pil_to_tensor(image).unsqueeze(0)))
    expected = (logits / temperature).softmax(1).topk(3).values[0].tolist()
    assert [best["probability"] for best in row["top"]] == pytest.approx(expected, rel=1e-4)
    assert row["uncertain"] == uncertain


def test_names_of_files_are_no_markup_and_stay_in_a_line(wardrobe, capsys):
    (wardrobe / "0.png").rename(wardrobe / "a[bold]b.png")
    (wardrobe / "1.png").rename(wardrobe / os.fsdecode(b"caf\xe9\n\x1b[31m.png"))
    rows = predict.main([str(wardrobe), "--out", "p.csv"])
    shown = capsys.readouterr().out
    assert "a[bold]b.png" in shown
    assert "caf\\udce9\\n\\x1b[31m.png " in shown
    with open("p.csv", encoding="utf-8", newline="") as table:
        read = [line["file"] for line in csv.DictReader(table)]
    assert read == [row["file"].replace("\udce9", "\\udce9") for row in rows]


def test_what_is_no_picture_is_named_and_skipped(wardrobe, run_module):
    (wardrobe / "notes.txt").write_text("no picture")
    (wardrobe / "half.png").write_bytes((wardrobe / "0.png").read_bytes()[:200])
    (wardrobe / "empty").mkdir()
    Image.new("RGB", (100, 100), "red").save(wardrobe / "plain.png")
    os.mkfifo(wardrobe / "pipe.png")
    done = run_module("predict", "wardrobe", "gone.jpg", "--out", "p.json")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        "skipped wardrobe/pipe.png",
        "skipped wardrobe/empty",
        "skipped gone.jpg",
        "skipped wardrobe/half.png",
        "skipped wardrobe/notes.txt",
        "skipped wardrobe/plain.png",
    ]
    assert lines[-1] == "6 of 9 files skipped"
    assert "no garment found" in lines[-2]
    assert len(json.loads(Path("p.json").read_text())) == 3


def test_a_list_of_paths_on_stdin(wardrobe, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"wardrobe/2.png\nwardrobe/0.png\n")))
    assert [row["file"] for row in predict.main(["-"])] == ["wardrobe/2.png", "wardrobe/0.png"]


def test_without_predictions_the_table_is_empty_and_no_old_one_stays(wardrobe, capsys):
    Path("p.csv").write_text("old")
    Path("nothing").mkdir()
    with pytest.raises(SystemExit) as exit_:
        predict.main(["nothing", "--out", "p.csv", "--sheet", "s.png", "--overwrite"])
    assert exit_.value.code == 1
    assert Path("p.csv").read_text().splitlines() == [
        "file,class_1,probability_1,class_2,probability_2,class_3,probability_3,uncertain"
    ]
    assert not Path("s.png").exists()
    assert capsys.readouterr().err == "skipped nothing: the folder is empty\n1 of 1 files skipped\n"


def test_no_file_is_overwritten_unless_asked_for(wardrobe, capsys, monkeypatch):
    monkeypatch.setattr(sheet, "PICTURES", 2)  # on a page
    for name in ("p.csv", "s-2.png"):
        Path(name).write_text("mine")
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        predict.main([str(wardrobe), "--sheet", "s.png"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("error: --sheet: s-2.png exists: use another name")
    assert Path("s-2.png").read_text() == "mine"
    predict.main([str(wardrobe), "--out", "p.csv", "--sheet", "s.png", "--overwrite"])
    assert re.findall("written +(.*)", capsys.readouterr().out) == ["s.png", "s-2.png", "p.csv"]
    assert Path("p.csv").read_text().startswith("file,")
    with Image.open("s.png") as first, Image.open("s-2.png") as second:
        assert first.width > second.width  # two pictures and one


def test_a_picture_is_never_overwritten(wardrobe, capsys):
    before = (wardrobe / "0.png").read_bytes()
    with pytest.raises(SystemExit) as exit_:
        predict.main([str(wardrobe), "--sheet", f"{wardrobe}/0.png", "--overwrite"])
    assert exit_.value.code == 2
    assert "--sheet: expected another file than those to predict, got wardrobe/0.png" in capsys.readouterr().err
    assert (wardrobe / "0.png").read_bytes() == before


def test_files_that_an_output_would_replace_are_refused(tmp_path):
    picture, other = tmp_path / "a.png", tmp_path / "b.png"
    for path in (picture, other, tmp_path / "c.png.part"):
        path.touch()
    (tmp_path / "d.png").mkdir()
    (tmp_path / "link.png").symlink_to(picture)
    (tmp_path / "loose.png").symlink_to("gone")
    os.link(picture, tmp_path / "hard.png")
    for path in (picture, tmp_path / ".." / tmp_path.name / "a.png", tmp_path / "link.png", tmp_path / "hard.png"):
        with pytest.raises(UserError, match="--sheet: expected another file than those to predict"):
            checks.check_replaced("--sheet", [path], [other, picture], overwrite=True)
    for name in ("b.png", "c.png", "loose.png"):
        with pytest.raises(UserError, match="exists: use another name, or replace it with --overwrite"):
            checks.check_replaced("--sheet", [tmp_path / name], [picture], overwrite=False)
        checks.check_replaced("--sheet", [tmp_path / name], [picture], overwrite=True)
    with pytest.raises(UserError, match="expected a file, got the folder"):
        checks.check_replaced("--sheet", [tmp_path / "d.png"], [picture], overwrite=True)


def test_what_cannot_be_written_at_the_end_is_said_after_the_predictions(wardrobe, capsys, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(predict_job, "replacing", full)
    monkeypatch.setattr(sheet, "replacing", full)
    Path("p.csv").write_text("old")
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        predict.main([str(wardrobe), "--out", "p.csv", "--sheet", "s.png", "--overwrite"])
    assert exit_.value.code == 1
    printed = capsys.readouterr()
    assert "wardrobe/2.png" in printed.out
    reasons = "s.png: No space left on device; p.csv: No space left on device"
    assert printed.err == f"error: cannot write {reasons}: mend this, or name files elsewhere\n"
    assert Path("p.csv").read_text() == "old"


@pytest.mark.parametrize(
    "flags", ["--trainer.limit_predict_batches 0.5 --trainer.profiler simple", "--trainer.fast_dev_run true"]
)
def test_limits_of_the_trainer_leave_pictures_out(wardrobe, capsys, flags):
    rows = predict.main([str(wardrobe), "--data.eval_batch_size", "2", "--sheet", "s.png", *flags.split()])
    assert [row["file"] for row in rows] == ["wardrobe/0.png", "wardrobe/1.png"]
    printed = capsys.readouterr()
    assert "1 of 3 files left out: --trainer.limit_predict_batches\n" in printed.err


def test_batches_and_skipped_files_make_no_difference(wardrobe):
    expected = predict.main([str(wardrobe)])
    (wardrobe / "1a.txt").touch()
    (wardrobe / "3.txt").touch()
    with pytest.raises(SystemExit):
        predict.main([str(wardrobe), "--data.eval_batch_size", "2", "--out", "p.json"])
    for row, found in zip(expected, json.loads(Path("p.json").read_text()), strict=True):
        assert found["file"] == row["file"]
        assert found["top"] == [{**c, "probability": pytest.approx(c["probability"], rel=1e-4)} for c in row["top"]]


def row(file, uncertain=""):
    top = [{"class": name, "probability": 0.5} for name in ("T-shirt/top", "Ankle boot", "T-shirt/top")]
    return {"file": file, "top": top, "uncertain": uncertain}


LONG = "pictures/2024/holiday/IMG_20240101_123456_HDR.JPG"


@pytest.mark.parametrize(
    ("width", "file", "uncertain", "classes"),
    [
        (80, "boot.jpg", "", 3),
        (80, "boot.jpg", "garment", 3),
        (70, "boot.jpg", "garment", 2),
        (80, LONG, "", 2),
        (80, LONG, "classes, garment", 1),
        (60, LONG, "", 1),
        (40, LONG, "", 1),
        (40, LONG, "classes, garment", 1),
        (10_000, LONG * 9, "classes, garment", 3),
    ],
)
def test_the_table_fits_and_names_can_be_read(width, file, uncertain, classes, capsys, monkeypatch):
    monkeypatch.setattr(screen, "console", lambda: Console(width=width, markup=False, highlight=False))
    results.print_predictions([row("x.png", uncertain and "garment"), row(file, uncertain)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert sum("T-shirt/top" in line or "Ankle boot" in line for line in lines) == 2
    [best] = [line for line in lines if "x.png" in line]
    assert best.count("50.0%") == classes or classes == 1
    # The name, in pieces of a length that can be read.
    column = min(len(file), results.FILE_WIDTH)
    first = next(line for line in lines if line.startswith(file[:column]))
    assert (uncertain in first) or width < 60


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines_on_a_terminal(text):
    """What is left on it."""
    lines = [""]
    for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r\n?|\n|[^\x1b\r\n]+", text):
        if part == "\x1b[2K":
            lines[-1] = ""
        elif part == "\x1b[1A":
            lines.pop()
        elif "\n" in part:
            lines.append("")
        elif not part.startswith(("\x1b", "\r")):
            lines[-1] += part
    return lines


def test_the_bar_is_erased_at_the_end_and_leaves_stdout_alone(wardrobe, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    (wardrobe / "notes.txt").touch()
    with pytest.raises(SystemExit):
        predict.main([str(wardrobe)])
    text = terminal.getvalue()
    bar = re.search("━+ 4/4[^\r]*", re.sub(r"\x1b\[[0-9;]*m", "", text))
    assert bar
    assert len(bar[0].rstrip()) < 40
    assert lines_on_a_terminal(text) == ["skipped wardrobe/notes.txt: the file is empty", "1 of 4 files skipped", ""]
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0  # the cursor is shown again
    assert "\x1b" not in capsys.readouterr().out


def test_there_is_no_bar_if_it_is_not_wanted(wardrobe, monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    predict.main([str(wardrobe), "--trainer.enable_progress_bar", "false"])
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_with_one_line(wardrobe, signum, status, monkeypatch):
    def stopped(picture):
        signal.raise_signal(signum)

    monkeypatch.setattr(photographs, "prepare", stopped)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with pytest.raises(SystemExit) as exit_:
        predict.main([str(wardrobe), "--out", "p.csv"])
    assert exit_.value.code == status
    assert lines_on_a_terminal(terminal.getvalue()) == [f"stopped by {signum.name}", ""]
    assert not list(Path().glob("p.csv*"))


@pytest.mark.slow
def test_thousands_of_files_need_no_more_memory_than_hundreds(wardrobe, run_module):
    """Peak memory of processes, with a sheet."""
    picture = Image.new("RGB", (1200, 900), "white")
    picture.paste("navy", (300, 200, 800, 700))
    picture.save("large.jpg")
    peaks = []
    for count in (500, 5000):
        folder = Path(f"of{count}")
        folder.mkdir()
        for number in range(count):
            os.link("large.jpg", folder / f"{number:04}.jpg")
        code = "import resource, sys; from fashion_lightning import predict; predict.main(sys.argv[1:]);"
        code += "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')), file=sys.stderr)"
        command = [sys.executable, "-c", code, str(folder), "--sheet", f"{count}.png"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=os.environ, check=True)
        peaks.append(int(done.stderr.split()[1]) / 1024)
    assert len(list(Path().glob("5000*.png"))) == -(-5000 // sheet.PICTURES)
    assert peaks[1] < peaks[0] + 60, peaks  # MB; most of it is the printed table


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "expected pictures or folders of pictures, got none"),
        (["x.png", "--out", "p.xls"], "--out: expected a name that ends in .csv or .json, got p.xls"),
        (["x.png", "--sheet", "s.txt"], "--sheet: expected a name that ends in .png, got s.txt"),
    ],
)
def test_bad_calls_get_one_line(wardrobe, capsys, args, message):
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        predict.main(args)
    assert exit_.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
