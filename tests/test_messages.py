"""command_line/messages.py: each message that jsonargparse and Lightning were recorded to give, in one line."""

import re

import pytest

from fashion_lightning.command_line.messages import EXPLANATIONS, explain

KNOWN = ["trainer.max_epochs", "data.batch_size", "FashionCNN", "Adam", "SGD"]
CALLABLE = "Type collections.abc.Callable[[], torch.nn.modules.module.Module] expects a function or a callable class"
CALLBACK = (
    'Parser key "trainer.callbacks":\n  Does not validate against any of the Union subtypes\n  Subtypes: [list['
    "pytorch_lightning.callbacks.callback.Callback], <class 'pytorch_lightning.callbacks.callback.Callback'>, "
    "<class 'NoneType'>]\n  Errors:\n    - Problem with given class_path 'pytorch_lightning.callbacks.EarlyStopping':\n"
)
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
    ("argument -c/--config: expected one argument", "--config: expected a value after it: --config VALUE"),
    (
        'Problems parsing config: while parsing a flow node\ndid not find expected node content\n  in "<unicode '
        'string>", line 2, column 1',
        "line 2 is not YAML: while parsing a flow node did not find expected node content",
    ),
    (
        'Problems parsing config: while scanning a quoted scalar\n  in "<unicode string>", line 1, column 4:\n    a: x'
        '\n       ^\nfound unexpected end of stream\n  in "<unicode string>", line 2, column 1:\n    \n    ^',
        "line 1 is not YAML: while scanning a quoted scalar",
    ),
    (
        "'utf-8' codec can't decode byte 0xc0 in position 1: invalid start byte",
        "expected a YAML file, got bytes that are no text",
    ),
    ("Unexpected config: - a\n- b\n", "expected settings as --print_config prints them, got - a - b"),
    (f"Unexpected config: {'x' * 500}", f"expected settings as --print_config prints them, got {'x' * 60}"),
    ("Unexpected config: ", "expected settings as --print_config prints them, got an empty file"),
    ("Option 'traner.max_epochs' is not accepted", "unknown key traner.max_epochs; did you mean trainer.max_epochs?"),
    (
        "You selected an invalid strategy name: `strategy='nonsense'`. It must be either a string or an instance of "
        "`pytorch_lightning.strategies.Strategy`. Example choices: auto, ddp, ddp_spawn, deepspeed, ... Find a",
        "--trainer.strategy: expected one like auto, ddp, ddp_spawn, deepspeed, got nonsense",
    ),
    (
        f'Parser key "model.network":\n  {CALLABLE}: the following arguments are required: in_features, out_features. '
        "Got value: Namespace(class_path='torch.nn.Linear', init_args=Namespace(in_features=None, out_features=None))",
        "--model.network: Linear needs in_features, out_features: add --model.network.in_features VALUE "
        "--model.network.out_features VALUE",
    ),
    (
        f"{CALLBACK}        the following "
        "arguments are required: monitor\n    - Expected a <class 'NoneType'>\n  Given value type: <class 'json"
        "argparse._namespace.Namespace'>\n  Given value: Namespace(class_path='pytorch_lightning.callbacks."
        "EarlyStopping', init_args=Namespace(monitor=None, min_delta=0.0))",
        "--trainer.callbacks: EarlyStopping needs monitor: add --trainer.callbacks.monitor VALUE",
    ),
    (
        f"{CALLBACK}        Parser key "
        "\"patience\":\n          Expected a <class 'int'>. Got value: x\n    - Problem with given class_path "
        "'pytorch_lightning.Callback':\n        Option 'patience' is not accepted\n    - Expected a <class 'NoneType'>"
        "\n  Given value type: <class 'jsonargparse._util.NestedArg'>\n  Given value: NestedArg(key='patience')",
        "--trainer.callbacks.patience: expected int, got x",
    ),
    (
        f"{CALLBACK}        Parser key "
        '"stopping_threshold":\n          Does not validate against any of the Union subtypes\n          Subtypes: '
        "[<class 'float'>, <class 'NoneType'>]\n          Errors:\n            - Expected a <class 'float'>\n"
        "          Given value type: <class 'str'>\n          Given value: x\n    - Problem with given class_path "
        "'pytorch_lightning.Callback':\n        Option 'stopping_threshold' is not accepted\n",
        "--trainer.callbacks.stopping_threshold: expected float, null, got x",
    ),
    (
        'Parser key "model.optimizer":\n  Type typing.Callable[[collections.abc.Iterable], torch.optim.optimizer.'
        'Optimizer] expects a function or a callable class: Parser key "betas":\n    Expected a tuple with 2 elements. '
        "Got value: [0.9, 1, 2]. Got value: Namespace(class_path='torch.optim.Adam', init_args=Namespace(betas=[0.9]))",
        "--model.optimizer.betas: expected a tuple with 2 elements, got [0.9, 1, 2]",
    ),
    ("unrecognized arguments: photo.png", "unknown argument photo.png"),
    ("Group 'data' does not accept option 'batchsize'", "unknown key data.batchsize; did you mean data.batch_size?"),
    ("No supported gpu backend found!", "No supported gpu backend found: use --trainer.accelerator cpu or auto"),
    (
        "Requirement 'torch_xla>=1.13' not met. HINT: Try running `pip install -U 'torch_xla>=1.13'`",
        "torch_xla>=1.13 is not installed, which the chosen settings need",
    ),
    ("No module named 'bitsandbytes'", "bitsandbytes is not installed, which the chosen settings need"),
    (
        f"Parser key \"model.network\":\n  {CALLABLE}: Option 'widths' is not accepted. Got value: "
        "Namespace(class_path='fashion_lightning.FashionCNN', init_args=Namespace(widths='3'))",
        "unknown flag --model.network.widths: the chosen class has no such argument",
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
    (
        "Parser key \"config\": File does not exist: 'gone.yaml'",
        "--config: expected a YAML file, but gone.yaml does not exist",
    ),
    ('Parser key "a": Something else', "--a: Something else"),
    ("Something else\n  over lines", "Something else over lines"),
]


@pytest.mark.parametrize(("message", "line"), RECORDED)
def test_one_line_that_names_it(message, line):
    assert explain(message, KNOWN) == line
    assert len(line) < 200


def test_every_explanation_is_of_a_recorded_message():
    messages = [" ".join(message.split()) for message, _ in RECORDED]
    found = {next(at for at, (pattern, _) in enumerate(EXPLANATIONS) if re.search(pattern, m)) for m in messages}
    assert found == set(range(len(EXPLANATIONS)))
