"""The promise to who names a class: it has its own defaults and what was said for it, and nothing of another class."""

import inspect
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from torch.optim import Adam, AdamW, Optimizer, lr_scheduler

from fashion_lightning import augmentation, fit, networks, schedules
from fashion_lightning.command_line import class_defaults
from fashion_lightning.command_line.settings import resolve
from fashion_lightning.errors import UserError

OPTIMIZERS = {
    name: cls for name, cls in vars(torch.optim).items() if inspect.isclass(cls) and issubclass(cls, Optimizer)
}
SCHEDULES = {
    name: cls
    for module in (lr_scheduler, schedules)
    for name, cls in vars(module).items()
    if inspect.isclass(cls) and issubclass(cls, lr_scheduler.LRScheduler)
}
NOT_NAMED = {
    "Optimizer": "the base class of optimisers",
    "LRScheduler": "the base class of schedules",
    "_LRScheduler": "its name in older versions of PyTorch",
    "SequentialLR": "takes schedules that are made of the optimiser before",
    "ChainedScheduler": "likewise, and no optimiser at all",
    "ReduceLROnPlateau": "follows a metric: refused, see test_settings.py",
}
REQUIRED = {
    "step_size": 3,
    "milestones": [2, 4],
    "gamma": 0.25,
    "T_max": 9,
    "T_0": 7,
    "base_lr": 0.125,
    "max_lr": 0.5,
    "lr_lambda": "math.cos",
    "total_steps": 30,
}
MINE = """
from pytorch_lightning import Callback
from torch import nn


class Narrow(nn.Module):
    def __init__(self, width: int = 3):
        super().__init__()


class Wide(nn.Module):
    def __init__(self, width: int = 300):
        super().__init__()


class Twelve(nn.Module):
    def __init__(self, num_classes: int = 12, widths: list[int] = [7], block: nn.Module | None = None):
        super().__init__()


class Anything(nn.Module):
    def __init__(self, **anything):
        super().__init__()


class FarShift(nn.Module):
    def __init__(self, shift: int = 5, cutout: int = 3):
        super().__init__()


class First(Callback):
    def __init__(self, patience: int = 1, verbose: bool = False):
        pass


class Second(Callback):
    def __init__(self, patience: int = 2, verbose: bool = False):
        pass


def make(num_classes: int = 10) -> nn.Module:
    return Twelve(num_classes)
"""
ADAMW = {"lr": 0.5, "betas": [0.5, 0.75]}
OPTIMIZER_FILES = {
    "adamw": {"class_path": "torch.optim.AdamW", "init_args": ADAMW},
    "adamw_alone": "AdamW",
    "sgd": "SGD",
    "adam": {"class_path": "Adam"},
    "decay": {"init_args": {"weight_decay": 0.125}},
    "rate": {"lr": 0.25},
}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch) -> None:
    """The current folder has classes of one's own and a YAML file for each of `OPTIMIZER_FILES`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mine.py").write_text(MINE)
    for name, spec in OPTIMIZER_FILES.items():
        write(f"{name}.yaml", model={"optimizer": spec})


def write(name: str, **settings) -> None:
    Path(name).write_text(yaml.safe_dump(settings))


def model(flags: str = "", job: str = "fit"):
    return resolve(job, flags.split()).config.model


def arguments(spec) -> dict:
    """As YAML has them: lists, no tuples."""
    return plain(spec.init_args.as_dict() if "init_args" in spec else {})


def plain(value):
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def own(cls: type) -> dict:
    """The defaults of a class but those that Lightning gives a value: the parameters, or the optimiser."""
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: plain(p.default) for p in parameters if p.name not in ("params", "optimizer")}


@pytest.mark.parametrize(
    ("key", "cls"),
    [
        pytest.param(key, cls, id=name)
        for key, classes in (("optimizer", OPTIMIZERS), ("lr_scheduler", SCHEDULES))
        for name, cls in classes.items()
        if name not in NOT_NAMED
    ],
)
def test_every_class_of_torch_has_its_own_defaults(key, cls):
    required = {name: REQUIRED[name] for name, default in own(cls).items() if default is inspect.Parameter.empty}
    flags = " ".join(f"--model.{key}.{name}={value}".replace(" ", "") for name, value in required.items())
    write("named.yaml", model={key: {"class_path": f"{cls.__module__}.{cls.__name__}", "init_args": required}})
    by_flag, by_file = model(f"--model.{key} {cls.__name__} {flags}")[key], model("--config named.yaml")[key]
    assert by_flag == by_file
    assert by_flag.class_path.split(".")[-1] == cls.__name__
    assert arguments(by_flag).keys() == own(cls).keys()
    assert {name: value for name, value in arguments(by_flag).items() if name not in required} == {
        name: default for name, default in own(cls).items() if name not in required
    }


def test_the_exceptions_are_there():
    assert OPTIMIZERS.keys() & NOT_NAMED.keys() == {"Optimizer"}
    assert SCHEDULES.keys() & NOT_NAMED.keys() == NOT_NAMED.keys() - {"Optimizer"}


@pytest.mark.parametrize(
    ("flags", "cls", "said"),
    [
        # Nothing is named: an argument changes only itself.
        ("", Adam, {"lr": 0.01, "fused": True}),
        ("--model.optimizer.lr 0.1", Adam, {"lr": 0.1, "fused": True}),
        ("--config rate.yaml", Adam, {"lr": 0.25, "fused": True}),
        ("--config decay.yaml", Adam, {"lr": 0.01, "fused": True, "weight_decay": 0.125}),
        # A class is named, even that of the default.
        ("--model.optimizer Adam", Adam, {}),
        ("--model.optimizer torch.optim.Adam --model.optimizer.lr 0.003", Adam, {"lr": 0.003}),
        ("--model.optimizer.class_path Adam", Adam, {}),
        ("--config adam.yaml", Adam, {}),
        ("--config adam.yaml --config decay.yaml", Adam, {"weight_decay": 0.125}),
        ("--config adamw_alone.yaml", AdamW, {}),
        ("--config adamw.yaml", AdamW, ADAMW),
        ('--model {"optimizer":"AdamW"}', AdamW, {}),
        ('--model.optimizer {"class_path":"AdamW","init_args":{"lr":0.1}}', AdamW, {"lr": 0.1}),
        # What is said without a name is for the class that is named before or after.
        ("--config adamw.yaml --config decay.yaml", AdamW, ADAMW | {"weight_decay": 0.125}),
        ("--config decay.yaml --config adamw.yaml", AdamW, ADAMW | {"weight_decay": 0.125}),
        ("--config decay.yaml --model.optimizer SGD", torch.optim.SGD, {"weight_decay": 0.125}),
        # The same class again keeps what was said for it.
        ("--config adamw.yaml --config adamw_alone.yaml", AdamW, ADAMW),
        ("--config adamw.yaml --model.optimizer AdamW --model.optimizer.lr 0.1", AdamW, ADAMW | {"lr": 0.1}),
        # Another class keeps nothing.
        ("--config adamw.yaml --config sgd.yaml", torch.optim.SGD, {}),
        ("--config sgd.yaml --config adamw.yaml", AdamW, ADAMW),
        ("--config adamw.yaml --config sgd.yaml --config adamw_alone.yaml", AdamW, {}),
        ("--config adamw.yaml --config adam.yaml --model.optimizer.lr 0.1", Adam, {"lr": 0.1}),
        (
            "--config adamw.yaml --model.optimizer SGD --model.optimizer.momentum 0.5",
            torch.optim.SGD,
            {"momentum": 0.5},
        ),
        ("--model.optimizer AdamW --model.optimizer.lr 1 --model.optimizer SGD", torch.optim.SGD, {}),
    ],
)
def test_flags_and_files_in_any_order(flags, cls, said):
    spec = model(flags).optimizer
    assert spec.class_path == f"torch.optim.{cls.__name__}"
    assert arguments(spec) == own(cls) | said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model.optimizer.lr 0.1 --model.optimizer SGD", "--model.optimizer.lr: expected after --model.optimizer, "),
        ("--config adamw.yaml --model.optimizer.lr=1 --model.optimizer.class_path=SGD", "--model.optimizer.lr: expect"),
        ("--model.optimizer SGD --model.optimizer.betas [0.5,0.5]", "unknown flag --model.optimizer.betas: the chosen"),
        ("--config adamw.yaml --config sgd.yaml --model.optimizer.betas [0.5,0.5]", "unknown flag --model.optimizer.b"),
        ("--model.lr_scheduler ExponentialLR", "--model.lr_scheduler: ExponentialLR needs gamma: add --model.l"),
        ("--model.lr_scheduler CyclicLR", "--model.lr_scheduler: CyclicLR needs base_lr, max_lr: add --model.lr_sched"),
        ("--model.lr_scheduler.gamma null", "--model.lr_scheduler: ExponentialLR needs gamma: add --model"),
    ],
)
def test_what_does_not_go_together_is_refused(flags, message):
    with pytest.raises(UserError) as raised:
        model(flags)
    assert str(raised.value).startswith(message)
    assert "class_defaults" not in str(raised.value)


def test_a_schedule_keeps_nothing_of_the_default():
    assert arguments(model("--model.lr_scheduler StepLR --model.lr_scheduler.step_size 8").lr_scheduler) == {
        "step_size": 8,
        "gamma": 0.1,
        "last_epoch": -1,
    }
    assert arguments(model("--model.lr_scheduler.gamma 0.5").lr_scheduler) == {"gamma": 0.5, "last_epoch": -1}


def test_a_network_keeps_nothing_of_another_one():
    assert arguments(model("--model.network mine.Twelve").network) == {"num_classes": 12, "widths": [7], "block": None}
    write("wide.yaml", model={"network": {"class_path": "ResidualCNN", "init_args": {"widths": [1, 2]}}})
    assert arguments(model("--config wide.yaml --model.network mine.Twelve").network)["widths"] == [7]
    assert arguments(model("--model.network.num_classes 11").network) == {"num_classes": 11}
    assert model("--config wide.yaml --model.network mine.make").network.__name__ == "make"


def test_a_class_in_a_network_keeps_nothing_of_another_one():
    block = {"class_path": "mine.Narrow", "init_args": {"width": 5}}
    write("narrow.yaml", model={"network": {"class_path": "mine.Twelve", "init_args": {"block": block}}})
    write("wide.yaml", model={"network": {"init_args": {"block": {"class_path": "mine.Wide"}}}})
    assert arguments(model("--config narrow.yaml").network)["block"]["init_args"] == {"width": 5}
    assert arguments(model("--config narrow.yaml --config wide.yaml").network)["block"]["init_args"] == {"width": 300}
    by_flag = model("--config narrow.yaml --model.network.block mine.Wide")
    assert arguments(by_flag.network)["block"]["init_args"] == {"width": 300}


def test_arguments_that_a_class_does_not_declare_are_not_kept_either():
    write("any.yaml", model={"network": {"class_path": "mine.Anything", "dict_kwargs": {"depth": 5}}})
    assert model("--config any.yaml").network.dict_kwargs == {"depth": 5}
    assert "dict_kwargs" not in model("--config any.yaml --model.network mine.Twelve").network
    write("twelve.yaml", model={"network": "mine.Twelve"})
    assert "dict_kwargs" not in model("--config any.yaml --config twelve.yaml").network


def test_an_augmentation_keeps_nothing_of_another_one():
    write("shift.yaml", model={"augmentation": {"class_path": "Augmentation", "init_args": {"shift": 2, "cutout": 8}}})
    assert arguments(model("--config shift.yaml").augmentation) == {"mirror": True, "shift": 2, "cutout": 8}
    assert arguments(model("--config shift.yaml --model.augmentation mine.FarShift").augmentation) == {
        "shift": 5,
        "cutout": 3,
    }
    assert arguments(model("--model.augmentation mine.FarShift").augmentation) == {"shift": 5, "cutout": 3}


def test_callbacks_keep_nothing_of_others():
    write("first.yaml", trainer={"callbacks": [{"class_path": "mine.First", "init_args": {"patience": 9}}]})
    write("second.yaml", trainer={"callbacks": [{"class_path": "mine.Second", "init_args": {"verbose": True}}]})

    def callbacks(flags: str):
        return [arguments(spec) for spec in resolve("fit", flags.split()).config.trainer.callbacks]

    assert callbacks("--config first.yaml") == [{"patience": 9, "verbose": False}]
    assert callbacks("--config first.yaml --config second.yaml") == [{"patience": 2, "verbose": True}]
    assert callbacks("--config first.yaml --trainer.callbacks+ mine.Second") == [
        {"patience": 9, "verbose": False},
        {"patience": 2, "verbose": False},
    ]


@pytest.fixture
def old_run() -> None:
    """A run of `WhitenedCNN`, `AdamW` without weight decay, `RiseAndFall` and `Augmentation`, all with arguments."""
    shutil.copytree(ROOT / "tests" / "old_run", "lightning_logs/version_0")


@pytest.mark.usefixtures("old_run")
@pytest.mark.parametrize("start", ["--config lightning_logs/version_0/config.yaml", "--ckpt_path run:0", "--resume"])
def test_a_run_is_resumed_with_its_settings_and_another_class_with_its_own(start):
    saved = yaml.safe_load(Path("lightning_logs/version_0/config.yaml").read_text())["model"]
    settings = resolve("fit", start.split())
    assert yaml.safe_load(settings.yaml)["model"] == {**saved, "shift_at_test": False, "compile": False}
    same = resolve("fit", [*start.split(), "--model.optimizer", "AdamW", "--model.network", "WhitenedCNN"])
    assert (same.yaml, same.start.departures) == (settings.yaml, ())
    other = model(f"{start} --model.network mine.Twelve --model.augmentation mine.FarShift")
    assert arguments(other.network) == {"num_classes": 12, "widths": [7], "block": None}
    assert arguments(other.augmentation) == {"shift": 5, "cutout": 3}
    assert arguments(other.optimizer)["weight_decay"] == 0.0


@pytest.mark.usefixtures("old_run")
@pytest.mark.parametrize("job", ["test", "predict"])
def test_a_run_is_evaluated_with_another_class_s_own_defaults(job):
    assert arguments(model("--model.label_smoothing 0", job).network)["widths"] == [4, 4]
    assert arguments(model("--model.network mine.Twelve", job).network)["widths"] == [7]
    assert arguments(model("--model.optimizer SGD", job).optimizer) == own(torch.optim.SGD)


@pytest.mark.parametrize("flags", ["", "--model.optimizer Adam", "--config adamw.yaml --config decay.yaml"])
def test_what_a_run_saves_is_read_as_it_was(flags):
    saved = resolve("fit", flags.split()).yaml
    Path("config.yaml").write_text(saved)
    assert resolve("fit", ["--config", "config.yaml"]).yaml == saved


@pytest.mark.parametrize("shown", ["--print_config", "--print_config=skip_default"])
@pytest.mark.parametrize("flags", ["", "--model.optimizer Adam", "--model.optimizer SGD", "--config adamw.yaml"])
def test_what_is_printed_is_read_as_it_was(flags, shown, capsys):
    with pytest.raises(SystemExit) as exit_:
        fit.main([*flags.split(), shown])
    assert exit_.value.code == 0
    Path("printed.yaml").write_text(capsys.readouterr().out)
    assert model("--config printed.yaml") == model(flags)


@pytest.mark.parametrize("recipe", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_have_what_they_say_and_the_defaults_of_their_classes(recipe):
    said = yaml.safe_load(recipe.read_text())["model"]
    resolved = model(f"--config {recipe}")
    for key in ("network", "optimizer", "lr_scheduler", "augmentation"):
        if key in said:
            name = said[key]["class_path"]
            modules = (networks, torch.optim, schedules, augmentation)
            cls = next(getattr(module, name) for module in modules if hasattr(module, name))
            assert arguments(resolved[key]) == own(cls) | said[key].get("init_args", {})


def test_commands_in_threads_do_not_share_what_is_replaced():
    replaced = class_defaults._typehints.discard_init_args_on_class_path_change
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(model, ["--model.optimizer AdamW", ""] * 6))
    assert {settings.optimizer.init_args.weight_decay for settings in found[::2]} == {0.01}
    assert {settings.optimizer.init_args.lr for settings in found[1::2]} == {0.01}
    assert class_defaults._typehints.discard_init_args_on_class_path_change is replaced
