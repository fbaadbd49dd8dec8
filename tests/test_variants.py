"""command_line/variants.py: words of a study to words for the parser of fit."""

import pytest
from jsonargparse import Namespace

from fashion_lightning.command_line import variants
from fashion_lightning.errors import UserError


def config(**given) -> Namespace:
    return Namespace(**{"variant": [], "vary": [], "search": [], "seeds": "5", "seed_everything": 0, **given})


def test_variants_are_flags_by_name_and_files():
    given = ["sgd=--model.optimizer SGD --model.optimizer.lr 1e-3", "wide=wide.yaml", "list=--x '[64, 128]'", "same="]
    assert variants.flags_of_variants(config(variant=given)) == {
        "baseline": [],
        "sgd": ["--model.optimizer", "SGD", "--model.optimizer.lr", "1e-3"],
        "wide": ["--config", "wide.yaml"],
        "list": ["--x", "[64, 128]"],
        "same": [],
    }


def test_a_grid_is_every_combination_with_values_as_they_were_typed():
    given = ["model.optimizer.lr=1e-3,no", "--model.network.widths=[32,64],[64,128],None"]
    found = variants.flags_of_variants(config(vary=given))
    assert list(found) == [
        "baseline",
        *(f"lr={a},widths={b}" for a in ("1e-3", "no") for b in ("[32,64]", "[64,128]", "None")),
    ]
    assert found["lr=no,widths=[64,128]"] == ["--model.optimizer.lr=no", "--model.network.widths=[64,128]"]


def test_keys_that_end_alike_are_told_apart_in_names():
    found = variants.flags_of_variants(config(vary=["a.lr=1", "b.lr=2", "c.size=x/y"]))
    assert list(found) == ["baseline", "a.lr=1,b.lr=2,size=x_y"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"variant": ["sgd"]}, r"--variant: expected 'NAME=FLAGS', got sgd"),
        ({"variant": ["a=--x 'b"]}, r"--variant: cannot read a=--x 'b: No closing quotation"),
        ({"variant": ["a=", "A="]}, r"--variant A: expected different names"),
        ({"variant": ["baseline="]}, r"--variant baseline: expected different names"),
        ({"variant": ["winner="]}, r"--variant winner: expected a name"),
        ({"variant": ["../x="]}, r"--variant \.\./x: expected a name"),
        ({"vary": ["lr"]}, r"--vary: expected KEY=VALUE,VALUE,..., got lr"),
        ({"vary": ["lr=1,"]}, r"--vary: expected KEY=VALUE,VALUE,..., got lr=1,"),
        ({"vary": ["lr=1,1"]}, r"--vary lr: expected each value once, got 1,1"),
    ],
)
def test_what_names_no_variant_is_said(given, message):
    with pytest.raises(UserError, match=f"^{message}"):
        variants.flags_of_variants(config(**given))


def test_ranges_and_choices():
    given = [
        "lr=1e-3..0.1:log",
        "--b=16..64",
        "momentum=0..0.9",
        "shift=-2..2",
        "network=WhitenedCNN,FashionCNN",
        "w=[1,2],3",
    ]
    space = variants.search_space(config(search=given))
    assert space == {
        "lr": (0.001, 0.1, True),
        "b": (16, 64, False),
        "momentum": (0.0, 0.9, False),
        "shift": (-2, 2, False),
        "network": ("WhitenedCNN", "FashionCNN"),
        "w": ("[1,2]", "3"),
    }
    assert isinstance(space["momentum"][0], float)
    assert variants.corners(space)[0] == [
        "--lr=0.001",
        "--b=16",
        "--momentum=0.0",
        "--shift=-2",
        "--network=WhitenedCNN",
        "--w=[1,2]",
    ]
    assert variants.corners(space)[1][:4] == ["--lr=0.1", "--b=64", "--momentum=0.9", "--shift=2"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["lr=0..1:log"], "--search lr: expected more than 0 with :log, got 0..1:log"),
        (["lr=2..1"], "--search lr: expected a lower end below the upper one, got 2..1"),
        (["lr=1..1"], "--search lr: expected a lower end below the upper one, got 1..1"),
        (["lr=1..x"], "--search lr: expected LOW..HIGH, LOW..HIGH:log or choices as in 1,2,3, got 1..x"),
        (["lr"], "--search: expected KEY=VALUE,VALUE,..., got lr"),
        (["lr=1..2", "--lr=3..4"], "--search: expected lr once, got it twice"),
    ],
)
def test_what_is_no_range_is_said(given, message):
    with pytest.raises(UserError) as error:
        variants.search_space(config(search=given))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        ({"seeds": "3"}, [0, 1, 2]),
        ({"seeds": "3", "seed_everything": 7}, [7, 8, 9]),
        ({"seeds": "3,5,8"}, [3, 5, 8]),
        ({"seeds": "3,"}, [3]),
        ({"seeds": "2", "search": ["lr=1,2"]}, [1, 2]),  # the trials have seed 0
    ],
)
def test_seeds(given, seeds):
    assert variants.seeds_of(config(**given)) == seeds


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": "0"}, "--seeds: expected 1 to 10,000"),
        ({"seeds": "1,1"}, "--seeds: expected 1 to 10,000, each once"),
        ({"seeds": "-1"}, "--seeds: expected a number of seeds"),
        ({"seeds": "1,4294967296"}, "--seeds: expected 1 to 10,000, each once, and below 4294967296"),
        ({"seeds": "0,1", "search": ["lr=1,2"]}, "--seeds: expected seeds other than 0"),
    ],
)
def test_what_are_no_seeds_is_said(given, message):
    with pytest.raises(UserError, match=f"^{message}"):
        variants.seeds_of(config(**given))
