import pytest

from fashion_lightning.errors import explain

KNOWN = ["trainer.max_epochs", "data.batch_size", "FashionCNN", "Adam", "SGD"]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "unrecognized arguments: --trainer.max_epoch 3",
            "unknown flag --trainer.max_epoch; did you mean --trainer.max_epochs?",
        ),
        ("unrecognized arguments: photo.png", "unknown argument photo.png"),
        (
            "Group 'data' does not accept option 'batchsize'",
            "unknown key data.batchsize; did you mean data.batch_size?",
        ),
        (
            'Parser key "model.network":\n\n  - Expected a path but FashionCN either not accessible or invalid\n'
            "  - Expected a dot import path string: FashionCN",
            "--model.network: expected the name or path of a class, got FashionCN; did you mean FashionCNN?",
        ),
        (
            "Parser key \"data.batch_size\":\n  Expected a <class 'int'>. Got value: many",
            "--data.batch_size: expected int, got many",
        ),
        (
            'Parser key "a":\n  Does not validate against any of the Union subtypes\n'
            "  Subtypes: [typing.Literal['x', 'y'], <class 'NoneType'>]\n  Errors:\n    - no\n"
            "  Given value type: <class 'str'>\n  Given value: z",
            "--a: expected x, y, null, got z",
        ),
        ("Something else\n  over lines", "Something else over lines"),
    ],
)
def test_one_line_that_names_it(message, line):
    assert explain(message, KNOWN) == line
