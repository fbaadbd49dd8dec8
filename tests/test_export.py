"""The promise of an exported file: what `predict` gives for images, without PyTorch, and checked before it is kept."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from conftest import ROOT
from PIL import Image

from fashion_lightning import export, fit, predict
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data.labels import CLASSES
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.errors import WorkError
from fashion_lightning.jobs import export as job
from fashion_lightning.networks import FashionCNN, ResidualCNN, WhitenedCNN
from fashion_lightning.reports.model_card import About, card, place

FILE, CARD = Path("exported/model.onnx"), Path("exported/README.md")
ABOUT = About("N", 1, 1.5, True, 0.5, 10, {}, {}, (), None, {})


def refused(args: list[str], capsys, status: int = 2) -> str:
    with pytest.raises(SystemExit) as exit_:
        export.main(args)
    assert exit_.value.code == status
    [line] = capsys.readouterr().err.splitlines()
    return line


OTHERS = [(FashionCNN, False, False), (WhitenedCNN, True, True), (ResidualCNN, False, True)]


@pytest.mark.parametrize(
    ("network", "mirror", "shift"),
    [
        *((FashionCNN, True, True), (WhitenedCNN, False, False), (ResidualCNN, True, False)),
        *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS),
    ],
)
def test_every_network_gives_the_same_probabilities_for_any_number_of_images(network, mirror, shift):
    torch.manual_seed(0)
    model = FashionClassifier(network, mirror_at_test=mirror, shift_at_test=shift)
    for name, buffer in model.named_buffers():
        if name.endswith("filters"):  # which training would find
            buffer.normal_()
    images = torch.randint(256, (200, 28, 28), dtype=torch.uint8)
    module = job.Probabilities(model.train(), 1.5)  # the mean over mirror images needs evaluation
    content = job.exported(module)
    found = job.with_metadata(content, ABOUT)
    for count in (0, 1, 7, 200):
        with torch.inference_mode():
            logits = model.eval()(((images[:count] / 255 - 0.5) / 0.5).unsqueeze(1))
        expected = (logits / 1.5).softmax(1)
        got = job.by_onnxruntime(found, images[:count])
        assert got.shape == (count, 10)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_it_serves_programs_without_pytorch_and_says_what_it_is(wardrobe, capsys):
    found = export.main([str(FILE)])
    shown = capsys.readouterr()
    assert shown.err == ""
    results = json.loads(Path("lightning_logs/version_0/results.json").read_text())
    assert found["test"]["accuracy"] == results["test"]["accuracy"]
    assert found["max_difference"] <= 1e-5
    assert "checked     203 test images: PyTorch's labels, probabilities within " in shown.out
    assert "ORT_DISABLE_TELEMETRY=1" in shown.out

    session = onnxruntime.InferenceSession(FILE)
    [images], [probabilities] = session.get_inputs(), session.get_outputs()
    assert (images.type, images.shape) == ("tensor(uint8)", ["N", 28, 28])
    assert (probabilities.type, probabilities.shape) == ("tensor(float)", ["N", 10])
    for wrong in (np.zeros((1, 28, 28), np.float32), np.zeros((1, 27, 28), np.uint8), np.zeros((28, 28), np.uint8)):
        with pytest.raises(Exception, match="INVALID_ARGUMENT"):
            session.run(None, {"images": wrong})
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == list(CLASSES)
    assert {name: float(metadata[name]) for name in ("test_accuracy", "val_accuracy", "temperature", "seed")} == {
        "test_accuracy": results["test"]["accuracy"],
        "val_accuracy": results["val"]["accuracy"],
        "temperature": results["val"]["temperature"],
        "seed": 0,
    }
    assert (metadata["run"], metadata["git_commit"]) == ("version_0", str(results["git_commit"]))
    content = FILE.read_bytes()
    for name in (str(ROOT), sys.prefix, str(Path.cwd()), socket.gethostname()):
        assert name.encode() not in content
        assert name not in CARD.read_text()

    # The example of the card, as it stands, for a picture that `predict` takes as it is.
    [code] = re.findall(r"```python\n(.*?)```", CARD.read_text(), re.S)
    shutil.copy("wardrobe/0.png", FILE.parent / "garment.png")
    [row] = predict.main(["wardrobe/0.png"])
    assert code.replace('"model.onnx"', f'"{FILE}"') in (ROOT / "docs" / "exporting.md").read_text()
    command = [sys.executable, "-c", f"import sys; sys.modules['torch'] = None\n{code}"]
    process = subprocess.run(command, cwd=FILE.parent, capture_output=True, text=True, check=True, env=os.environ)
    assert process.stdout == f"{row['top'][0]['class']}\n"
    image = np.asarray(Image.open("wardrobe/0.png"))
    got = np.sort(session.run(None, {"images": image[None]})[0][0])[::-1][:3]
    assert got == pytest.approx([best["probability"] for best in row["top"]], abs=1e-5)


@pytest.mark.filterwarnings("ignore:--model.mirror_at_test")  # which the run is not trained for
def test_the_card_is_as_hubs_read_it(wardrobe, tiny_data):
    found = export.main([str(FILE)])
    assert found["card"] == str(CARD)
    assert place(FILE) == CARD
    assert place(FILE.with_name("other.onnx")) == FILE.with_name("other.md")  # that is the card of another file
    _, head, text = CARD.read_text().split("---\n", 2)
    about = yaml.safe_load(head)
    assert about["pipeline_tag"] == "image-classification"
    assert not {"datasets", "license", "model-index"} & about.keys()  # since these are not the published ones
    assert "their licence is not known here" in text
    data = FashionMNISTDataModule(tiny_data, verify=False)
    data.setup()
    images, labels = data.splits["test"][:]
    predicted = job.by_onnxruntime(FILE.read_bytes(), images.squeeze(1)).argmax(1)
    for index, name in enumerate(CLASSES):
        share = (predicted[labels == index] == index).double().mean()
        assert f"| {name} | {share:.1%} |" in text
    assert f"| test | {found['test']['accuracy']:.2%} | " in text
    assert "| optimizer | Adam |" in text
    assert "Exported with" not in text
    export.main([str(FILE), "--overwrite", "--model.mirror_at_test", "true"])
    assert "Exported with --model.mirror_at_test: true, in the run: false." in CARD.read_text()
    about = yaml.safe_load(card("m.onnx", b"", ABOUT, 0.0).split("---\n")[1])
    assert (about["license"], about["datasets"]) == ("mit", ["zalando-datasets/fashion_mnist"])
    [model] = about["model-index"]
    assert model["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.5}]


@pytest.mark.slow
def test_the_same_bytes_twice_and_nothing_at_home(wardrobe, tmp_path):
    export.main([str(FILE)])
    home = tmp_path / "home"
    home.mkdir()
    variables = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    command = [sys.executable, "-m", "fashion_lightning.export", "again/model.onnx"]
    process = subprocess.run(command, capture_output=True, text=True, env={**variables, "HOME": str(home)}, check=True)
    assert process.stderr == ""
    assert Path("again/model.onnx").read_bytes() == FILE.read_bytes()
    assert Path("again/README.md").read_text() == CARD.read_text()
    assert [path for path in home.rglob("*") if path.is_file() and "matplotlib" not in path.parts] == []


def test_what_is_there_is_not_lost(wardrobe, monkeypatch, capsys):
    Path("README.md").write_text("# A project\n")
    assert export.main(["model.onnx"])["card"] == "model.md"
    assert Path("README.md").read_text() == "# A project\n"
    before = Path("model.onnx").read_bytes(), Path("model.md").read_bytes()
    assert refused(["model.onnx"], capsys) == (
        "error: MODEL.onnx: model.onnx exists: use another name, or replace it with --overwrite"
    )
    right = job.by_onnxruntime
    monkeypatch.setattr(job, "by_onnxruntime", lambda *args: right(*args).roll(1, 1))
    line = refused(["model.onnx", "--overwrite"], capsys, 1)
    assert re.match(r"error: model\.onnx is not written: .* in 203 of 203 labels and up to .* in probabilities", line)
    assert (Path("model.onnx").read_bytes(), Path("model.md").read_bytes()) == before
    Path("other.md").mkdir()
    assert refused(["other.onnx"], capsys).startswith("error: MODEL.onnx: expected a place for its card, but README.md")


@pytest.mark.parametrize(
    ("at", "got", "problem"),
    [
        ((0, 5), 0.10002, "0 of 20 labels and up to 2.0e-05"),
        ((0, 5), torch.nan, "up to nan"),
        ((19, 4), 0.100005, "1 of 20 labels and up to 5.0e-06"),
    ],
)
def test_neither_a_probability_nor_a_label_may_differ(at, got, problem):
    right = torch.full((20, 10), 0.1)
    right[:, 3] += torch.tensor([0.1] * 19 + [1e-6])  # the last image is nearly of two classes
    found = job.Export(None, None, None, FILE, CARD)
    assert found._difference(right, right + 1e-6) == pytest.approx(1e-6, rel=0.1)
    wrong = right.clone()
    wrong[at] = got
    with pytest.raises(WorkError, match=problem):
        found._difference(right, wrong)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return logits if logits.sum() > 0 else -logits", "Could not guard on data-dependent expression"),
        ("return logits if images.shape[0] == 2 else -logits", "Constraints violated"),
        ("return logits + torch.linalg.svdvals(images[0]).sum() * 0", "expected steps that ONNX has"),
        (
            "return logits + torch.conv2d(images.double(), torch.ones(1, 1, 28, 28).double())[0, 0, 0].float()",
            "ONNX Runtime",
        ),
    ],
)
def test_a_network_that_cannot_be_exported_is_one_line(body, problem, tiny_args, monkeypatch, tmp_path, capsys):
    code = f"""
        import torch
        class Odd(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(784, 10)
            def forward(self, images):
                logits = self.layer(images.flatten(1))
                {body}
    """
    (tmp_path / "odd.py").write_text("\n".join(line[8:] for line in code.splitlines()))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    fit.main([*tiny_args, "--trainer.max_epochs", "1", "--model.network", "odd.Odd"])
    capsys.readouterr()
    line = refused(["model.onnx"], capsys)
    assert line.startswith("error: --model.network: Odd cannot be exported: ")
    assert problem in line
    assert not Path("model.onnx").exists()


def test_a_branch_has_no_paths_either():
    class Branching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(784, 10)

        def forward(self, images):
            logits = self.layer(images.flatten(1))
            return torch.cond(logits.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (logits,))

    module = job.Probabilities(FashionClassifier(Branching()), 1.0)
    content = job.with_metadata(job.exported(module), ABOUT)
    assert str(ROOT).encode() not in content
    assert job.by_onnxruntime(content, torch.zeros(3, 28, 28, dtype=torch.uint8)).shape == (3, 10)


def test_what_results_lack_is_not_said(wardrobe):
    path = Path("lightning_logs/version_0/results.json")
    found = json.loads(path.read_text())
    path.write_text(json.dumps({name: found[name] for name in ("val", "test")}))
    export.main([str(FILE)])
    assert "With fashion_lightning.\n" in CARD.read_text()


def test_bad_names_and_missing_packages_are_said_first(wardrobe, monkeypatch, capsys):
    assert refused([], capsys) == "error: MODEL.onnx: expected the name of a file to write, got none"
    assert "expected a name that ends in .onnx, got model.pt" in refused(["model.pt"], capsys)
    for name in ("onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    assert refused(["model.onnx"], capsys) == (
        "error: export needs onnxscript and onnxruntime: pip install -e '.[export]'"
    )


def test_a_run_in_another_precision_and_a_checkpoint_alone(tiny_args, capsys):
    fit.main([*tiny_args, "--trainer.max_epochs", "1", "--trainer.precision", "bf16-true"])
    of_run = export.main([str(FILE)])
    assert of_run["max_difference"] <= 1e-5
    shutil.copy("lightning_logs/version_0/checkpoints/best.ckpt", "copy.ckpt")
    found = export.main(["alone/model.onnx", "--ckpt_path", "copy.ckpt", *tiny_args[:4]])
    assert found["test"] == of_run["test"]
    metadata = onnxruntime.InferenceSession("alone/model.onnx").get_modelmeta().custom_metadata_map
    assert "run" not in metadata
    assert metadata["seed"] == "0"
    assert "which may say too much or too little" in Path("alone/README.md").read_text()
