"""command_line/messages.py: each message that jsonargparse and Lightning were recorded to give, in one line."""

import re

import pytest

from fashion_lightning.command_line.messages import EXPLANATIONS, explain

KNOWN = ["trainer.max_epochs", "data.batch_size", "FashionCNN", "Adam", "SGD"]
CALLABLE = "Type collections.abc.Callable[[], torch.nn.modules.module.Module] expects a function or a callable class"
RECORDED = [
    (
        "unrecognized arguments: --trainer.max_epoch 3",
        "unknown flag --trainer.max_epoch; did you mean --trainer.max_epochs?",
    ),
    (
        "unrecognized arguments: --trainer.max_epoch=3",
        "unknown flag --trainer.max_epoch; did you mean --trainer.max_epochs?",
    ),
    ("unrecognized arguments: --nonsense", "unknown flag --nonsense"),
    ("unrecognized arguments: photo.png", "unknown argument photo.png"),
    ("Group 'data' does not accept option 'batchsize'", "unknown key data.batchsize; did you mean data.batch_size?"),
    ("No supported gpu backend found!", "No supported gpu backend found: use --trainer.accelerator cpu or auto"),
    (
        f"Parser key \"model.network\":\n  {CALLABLE}: Option 'widths' is not accepted. Got value: "
        "Namespace(class_path='fashion_lightning.FashionCNN', init_args=Namespace(widths='3'))",
        "unknown flag --model.network.widths: the chosen class has no such argument",
    ),
    (
        f'Parser key "model.network":\n  {CALLABLE}: the following arguments are required: in_features, out_features. '
        "Got value: Namespace(class_path='torch.nn.Linear', init_args=Namespace(in_features=None, out_features=None))",
        "--model.network: expected values for in_features, out_features, which the chosen class requires",
    ),
    (
        'Parser key "model.lr_scheduler":\n\n  - Expected a path but ReduceLROnPlateau either not accessible or '
        "invalid\n  - Multiple subclasses with name ReduceLROnPlateau. Give the full class path to avoid ambiguity: "
        "torch.optim.lr_scheduler.ReduceLROnPlateau, pytorch_lightning.cli.ReduceLROnPlateau.",
        "--model.lr_scheduler: expected the path of a class, got ReduceLROnPlateau, which may mean "
        "torch.optim.lr_scheduler.ReduceLROnPlateau, pytorch_lightning.cli.ReduceLROnPlateau",
    ),
    (
        'Parser key "model.network":\n\n  - Expected a path but FashionCN either not accessible or invalid\n'
        "  - Expected a dot import path string: FashionCN",
        "--model.network: expected the name or path of a class, got FashionCN; did you mean FashionCNN?",
    ),
    (
        'Parser key "model.network":\n\n  - Expected a path but nowhere.Net either not accessible or invalid\n'
        f"  - {CALLABLE}: No module named 'nowhere'. Got value: nowhere.Net",
        "--model.network: expected a class or its path, but there is no module nowhere",
    ),
    (
        'Parser key "trainer.max_epochs":\n  Does not validate against any of the Union subtypes\n'
        "  Subtypes: [<class 'int'>, <class 'NoneType'>]\n  Errors:\n    - Expected a <class 'int'>\n"
        "    - Expected a <class 'NoneType'>\n  Given value type: <class 'str'>\n  Given value: x",
        "--trainer.max_epochs: expected int, null, got x",
    ),
    (
        'Parser key "model.optimizer":\n  Type typing.Callable[[collections.abc.Iterable], torch.optim.optimizer.'
        'Optimizer] expects a function or a callable class: Parser key "lr":\n\n    - Expected a path but x either not '
        "accessible or invalid\n    - Does not validate against any of the Union subtypes\n    Subtypes: "
        "[<class 'float'>, <class 'torch.Tensor'>]\n    Errors:\n      - Expected a <class 'float'>\n      - Expected "
        "a dot import path string: x\n    Given value type: <class 'str'>\n    Given value: x. Got value: Namespace("
        "class_path='torch.optim.Adam', init_args=Namespace(lr='x'))",
        "--model.optimizer.lr: expected float, Tensor, got x",
    ),
    (
        'Parser key "a":\n  Does not validate against any of the Union subtypes\n'
        "  Subtypes: [typing.Literal['x', 'y'], <class 'NoneType'>]\n  Errors:\n    - no\n"
        "  Given value type: <class 'str'>\n  Given value: z",
        "--a: expected x, y, null, got z",
    ),
    (
        "Parser key \"data.batch_size\":\n  Expected a <class 'int'>. Got value: many",
        "--data.batch_size: expected int, got many",
    ),
    ("Parser key \"config\": File does not exist: 'gone.yaml'", "--config: File does not exist: 'gone.yaml'"),
    ("Something else\n  over lines", "Something else over lines"),
]


@pytest.mark.parametrize(("message", "line"), RECORDED)
def test_one_line_that_names_it(message, line):
    assert explain(message, KNOWN) == line


def test_every_explanation_is_of_a_recorded_message():
    messages = [" ".join(message.split()) for message, _ in RECORDED]
    found = {next(at for at, (pattern, _) in enumerate(EXPLANATIONS) if re.search(pattern, m)) for m in messages}
    assert found == set(range(len(EXPLANATIONS)))
