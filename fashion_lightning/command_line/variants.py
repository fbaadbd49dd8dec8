"""What a study compares: from `--variant`, `--vary`, `--search` and `--seeds` to words for the parser of fit."""

import itertools
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser

from fashion_lightning.errors import UserError
from fashion_lightning.reports.differences import BASELINE
from fashion_lightning.storage.study_folders import SAMPLERS, TRIAL, WINNER, Range

MOST_SEEDS = 10_000
NAME = re.compile(r"[\w(\[][\w.,=+()\[\]-]{0,99}")  # of a folder and in tables
OF_NAMES = "at most 100 letters, digits and . , = + - _ ( ) [ ]"
NUMBER = r"[-+]?\d*\.?\d+(?:e[-+]?\d+)?"
RANGE = re.compile(rf"(?P<low>{NUMBER})\.\.(?P<high>{NUMBER})(?P<log>:log)?", re.I)

# Names of the flags of a study, which are no settings of its cells.
FLAGS = (
    *("name", "variant", "vary", "search", "seeds", "trials", "sampler", "workers", "threads", "storage"),
    *("difference", "dry_run", "retry_failed", "test_winner"),
)


def add_flags(parser: LightningArgumentParser) -> None:
    """Their help is that of the command."""
    parser.add_argument("--name", type=str, help="Of the study, whose folder is studies/NAME.")
    for name in ("variant", "vary", "search"):
        parser.add_argument(f"--{name}", type=str, action="append", default=[], help="See --help; may be repeated.")
    parser.add_argument("--seeds", type=str, default="5", help="A number of seeds, or the seeds, as in 3,5,8.")
    parser.add_argument("--trials", type=int, default=30, help="Of --search.")
    parser.add_argument("--sampler", type=str, default="random", help=f"Of --search: {' or '.join(SAMPLERS)}.")
    parser.add_argument("--workers", type=int | None, default=None, help="Cells trained at the same time.")
    parser.add_argument("--threads", type=int, default=1, help="Of a cell.")
    parser.add_argument("--storage", type=str | None, default=None, help="URL of a database for several machines.")
    parser.add_argument("--difference", type=float, default=0.1, help="Of accuracy, that matters, in points.")
    parser.add_argument("--dry_run", action="store_true", help="Print the cells and the time that they take.")
    parser.add_argument("--retry_failed", action="store_true", help="Train failed cells again.")
    parser.add_argument("--test_winner", action="store_true", help="Evaluate the winner on the test set, once.")


def flags_of_variants(config: Namespace) -> dict[str, list[str]]:
    """Name of a variant to its flags, which follow those of all; the baseline has none."""
    found: dict[str, list[str]] = {BASELINE: []}
    for text in config.variant:
        name, is_there, flags = text.partition("=")
        if not is_there:
            raise UserError(f"--variant: expected 'NAME=FLAGS', got {text}")
        words = _words(flags, text)
        is_file = len(words) == 1 and Path(words[0]).suffix in (".yaml", ".yml")
        _add(found, name, ["--config", *words] if is_file else words, f"--variant {name}")
    grid = [_choices("--vary", text) for text in config.vary]
    for key, count in Counter(key for key, _ in grid).items():
        if count > 1:
            raise UserError(f"--vary: expected {key} once, got it {count} times")
    for values in itertools.product(*(choices for _, choices in grid)) if grid else ():
        pairs = [(key, value) for (key, _), value in zip(grid, values, strict=True)]
        name = ",".join(f"{_short(key, [key for key, _ in grid])}={value}" for key, value in pairs)
        _add(found, re.sub(r"[^\w.,=+()\[\]-]", "_", name), words_of(dict(pairs)), "--vary")
    return found


def _add(found: dict[str, list[str]], name: str, words: list[str], flag: str) -> None:
    if name == WINNER or name.startswith(TRIAL) or not NAME.fullmatch(name):
        raise UserError(f"{flag}: expected a name of {OF_NAMES}, no reserved word, got {name!r}")
    if name.casefold() in map(str.casefold, found):  # there are file systems that do not tell them apart
        raise UserError(f"{flag}: expected different names, got two variants named {name}")
    found[name] = words


def search_space(config: Namespace) -> dict[str, Range]:
    """Flag without its dashes to its range."""
    space: dict[str, Range] = {}
    for text in config.search:
        key, is_there, values = text.partition("=")
        key = key.removeprefix("--")
        if key in space:
            raise UserError(f"--search: expected {key} once, got it twice")
        space[key] = _range(key, values) if is_there and ".." in values else tuple(_choices("--search", text)[1])
    return space


def corners(space: dict[str, Range]) -> list[list[str]]:
    """Flags for the ends of all ranges, and for every choice."""
    ends = {key: values if isinstance(values[0], str) else values[:2] for key, values in space.items()}
    count = max((len(values) for values in ends.values()), default=0)
    return [words_of({key: str(v[min(i, len(v) - 1)]) for key, v in ends.items()}) for i in range(count)]


def words_of(values: Mapping[str, str]) -> list[str]:
    return [f"--{key}={value}" for key, value in values.items()]


def seeds_of(config: Namespace) -> list[int]:
    """With a search, its trials have the seed of `--seed_everything`, and no other cell has it."""
    first = config.seed_everything
    text = config.seeds
    if not re.fullmatch(r"\d+(,\d*)*", text):
        raise UserError(f"--seeds: expected a number of seeds, or seeds as in 3,5,8, got {text}")
    listed = [int(seed) for seed in text.split(",") if seed]
    fresh = first + bool(config.search)
    seeds = listed if "," in text else list(range(fresh, fresh + min(listed[0], MOST_SEEDS + 1)))
    if not 0 < len(seeds) <= MOST_SEEDS or len(set(seeds)) < len(seeds) or max(seeds) >= 2**32:
        raise UserError(f"--seeds: expected 1 to {MOST_SEEDS:,}, each once, and below {2**32}, got {text}")
    if config.search and first in seeds:
        raise UserError(f"--seeds: expected seeds other than {first}, with which the trials of the search are trained")
    return seeds


def _range(key: str, text: str) -> Range:
    match = RANGE.fullmatch(text)
    if not match:
        raise UserError(f"--search {key}: expected LOW..HIGH, LOW..HIGH:log or choices as in 1,2,3, got {text}")
    try:
        low, high = int(match["low"]), int(match["high"])
    except ValueError:
        low, high = float(match["low"]), float(match["high"])  # type: ignore[assignment]
    if low >= high:
        raise UserError(f"--search {key}: expected a lower end below the upper one, got {text}")
    if match["log"] and low <= 0:
        raise UserError(f"--search {key}: expected more than 0 with :log, got {text}")
    return low, high, bool(match["log"])


def _choices(flag: str, text: str) -> tuple[str, list[str]]:
    """Key, and values between commas that are in no brackets."""
    key, _, values = text.partition("=")
    found, depth = [""], 0
    for character in values:
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    if not key or not all(found):
        raise UserError(f"{flag}: expected KEY=VALUE,VALUE,..., got {text}")
    if len(set(found)) < len(found):
        raise UserError(f"{flag} {key}: expected each value once, got {values}")
    return key.removeprefix("--"), found


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a flag, or all of it where others end alike."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in keys) == 1 else key


def _words(flags: str, text: str) -> list[str]:
    try:
        return shlex.split(flags)
    except ValueError as error:
        raise UserError(f"--variant: cannot read {text}: {error}") from error
