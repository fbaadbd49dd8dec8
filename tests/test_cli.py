import re

import pytest

from fashion_lightning import fit


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--data.verify", "false", "--data.data_dir", "nothing_here"],
            "expected train-images-idx3-ubyte, .* in nothing_here/",
        ),
        (["--ckpt_path", "best"], "--ckpt_path best: expected best, last, run:N or the path"),
    ],
)
def test_bad_input_gets_one_line_and_exit_2(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        fit.main(flags)
    assert exit_.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)


def test_printed_settings_are_accepted_and_win_from_left_to_right(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def printed(*flags):
        with pytest.raises(SystemExit) as exit_:
            fit.main([*flags, "--print_config"])
        assert exit_.value.code == 0
        return capsys.readouterr().out

    (tmp_path / "a.yaml").write_text(printed("--trainer.max_epochs", "7", "--data.batch_size", "30"))
    (tmp_path / "b.yaml").write_text("trainer:\n  max_epochs: 8\n")
    assert printed("--config", "a.yaml") == (tmp_path / "a.yaml").read_text()
    both = printed("--config", "a.yaml", "--config", "b.yaml", "--data.batch_size", "20")
    assert "max_epochs: 8\n" in both
    assert "batch_size: 20\n" in both


def test_the_assignment_is_the_default(capsys):
    with pytest.raises(SystemExit):
        fit.main(["--print_config"])
    out = capsys.readouterr().out
    for setting in (
        "seed_everything: 0",
        "max_epochs: 5",
        "accelerator: auto",
        "deterministic: true",
        "class_path: fashion_lightning.FashionCNN",
        "class_path: torch.optim.Adam",
        "lr: 0.01",
        "gamma: 0.999",
        "batch_size: 60",
        "split_seed: 0",
    ):
        assert f"{setting}\n" in out


@pytest.mark.parametrize("flag", ["--trainer.max_epoch", "--data.batch", "--model.lr", "--nonsense"])
def test_flags_are_not_abbreviated_or_ignored(flag, capsys):
    with pytest.raises(SystemExit) as exit_:
        fit.main([flag, "3"])
    assert exit_.value.code == 2
    assert flag in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_precision_is_a_flag(tiny_args, precision):
    assert fit.main([*tiny_args, "--trainer.precision", precision])["test"]["accuracy"] > 0.5
