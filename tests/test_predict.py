"""The promise of predictions: on the user's own files, as `test` would have it."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from fashion_lightning import fit, predict
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data.labels import CLASSES
from fashion_lightning.data.module import FashionMNISTDataModule, normalize


@pytest.fixture
def wardrobe(tiny_args, tiny_data):
    """A trained run, and a folder with three test images and a text file."""
    fit.main(tiny_args)
    data = FashionMNISTDataModule(tiny_data, verify=False)
    data.setup()
    folder = Path("wardrobe")
    folder.mkdir()
    images, _ = data.splits["test"][:3]
    for index, image in enumerate(images.squeeze(1)):
        Image.fromarray(image.numpy()).save(folder / f"{index}.png")
    return folder


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


def test_names_of_files_are_no_markup(wardrobe, capsys):
    (wardrobe / "0.png").rename(wardrobe / "a[bold]b.png")
    predict.main([str(wardrobe)])
    assert "a[bold]b.png" in capsys.readouterr().out


def test_what_is_no_picture_is_named_and_skipped(wardrobe, run_module):
    (wardrobe / "notes.txt").write_text("no picture")
    (wardrobe / "half.png").write_bytes((wardrobe / "0.png").read_bytes()[:200])
    done = run_module("predict", "wardrobe", "gone.jpg", "--out", "p.json")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        "skipped wardrobe/half.png",
        "skipped wardrobe/notes.txt",
        "skipped gone.jpg",
    ]
    assert lines[-1] == "3 of 6 files skipped"
    assert len(json.loads(Path("p.json").read_text())) == 3


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


def test_preparation_keeps_the_labels_of_real_images(real_data, tmp_path, monkeypatch):
    """The first 1,000 test images: as they are, all keep their label; as photographs, 95 % do."""
    monkeypatch.chdir(tmp_path)
    flags = ["--data.data_dir", str(real_data), "--trainer.max_epochs", "1", "--inspect.figures", "false"]
    results = fit.main([*flags, "--trainer.accelerator", "cpu"])
    data = FashionMNISTDataModule(real_data)
    data.setup()
    images, _ = data.splits["test"][:1000]
    model = FashionClassifier.load_from_checkpoint(results["checkpoint"]).eval()
    with torch.no_grad():
        labels = [CLASSES[label] for label in model(normalize(images)).argmax(1)]
    for folder in ("small", "large"):
        Path(folder).mkdir()
    for index, image in enumerate(images[:, 0].numpy()):
        Image.fromarray(image).save(f"small/{index:04}.png")
        photograph = Image.new("RGB", (560, 620), "white")
        photograph.paste(Image.fromarray(255 - image).resize((420, 420), Image.Resampling.LANCZOS), (70, 90))
        photograph.save(f"large/{index:04}.jpg")
    small, large = ([row["top"][0]["class"] for row in predict.main([folder])] for folder in ("small", "large"))
    assert small == labels
    kept = sum(a == b for a, b in zip(large, labels, strict=True))
    assert kept >= 950
