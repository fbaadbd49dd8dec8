"""The folder of a study, `studies/NAME`, and the definition in it, which says what its cells are."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fashion_lightning.errors import UserError
from fashion_lightning.storage.cells import Cell
from fashion_lightning.storage.run_folders import LOGS, PREFIX, Run
from fashion_lightning.storage.whole_files import replacing

DRAWN = "# drawn: "  # first line of the settings of a trial
STUDIES, WINNER, TRIAL = "studies", "winner", "trial_"
SAMPLERS = {"random": "RandomSampler", "tpe": "TPESampler"}  # of a search, to those of Optuna

Range = tuple[int, int, bool] | tuple[float, float, bool] | tuple[str, ...]  # low, high, whether log; or choices


@dataclass(frozen=True)
class Search:
    """Trials of settings that are drawn from ranges, all trained with one seed."""

    space: dict[str, str]  # flag without dashes to its range, as typed
    trials: int
    sampler: str
    seed: int  # of the draws and of the training of every trial


@dataclass(frozen=True)
class Definition:
    """What is compared. Variants, seeds and trials may be added later; all else stays."""

    key: str  # of this folder, by which a storage is known to be its own
    settings: dict[str, str]  # name of a variant to all its settings, YAML
    seeds: list[int]
    threads: int  # of a cell; another number changes last bits
    search: Search | None = None
    looks: int = 0  # how often seeds were added after cells were finished
    winner: str | None = None  # the trial that was best, its settings and accuracy: it is a variant since
    tested: str | None = None  # the variant of which the test set was evaluated, or is being evaluated


@dataclass(frozen=True)
class StudyFolder:
    folder: Path
    lock: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lock", self.folder / "study.lock")

    @property
    def database(self) -> Path:
        return self.folder / "study.db"

    def settings(self, variant: str) -> Path:
        """The file that its cells are trained by."""
        return self.folder / "variants" / f"{variant}.yaml"

    def run(self, cell: Cell) -> Run:
        """The only one of the cell, whether it is there or not."""
        return Run(self.folder / cell.folder)

    def root(self, cell: Cell) -> Path:
        """The folder that a fit is told."""
        return self.run(cell).folder.parents[1]

    def log(self, cell: Cell) -> Path:
        return self.root(cell) / "log.txt"

    def read(self) -> Definition | None:
        """None if there is no study in the folder. Raises UserError if its definition cannot be read."""
        path = self._definition
        if not path.exists():
            if (self.folder / "cells").exists():
                raise UserError(f"{self.folder} has cells, but lost {path.name}: restore it, or choose another --name")
            return None
        try:
            content: dict[str, Any] = yaml.safe_load(path.read_text())
            search = content.pop("search")
            settings = {name: self.settings(name).read_text() for name in content.pop("variants")}
            return Definition(settings=settings, search=Search(**search) if search else None, **content)
        except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
            remedy = "restore it, or choose another --name"
            raise UserError(f"{self.folder}: its definition cannot be read ({error}); {remedy}") from error

    def write(self, definition: Definition) -> None:
        before = self.read()
        for name, text in definition.settings.items():
            if not before or name not in before.settings:  # whatever file is there
                self.write_settings(name, text)
        content = {"variants": list(definition.settings), **dataclasses.asdict(definition)}
        del content["settings"]
        with replacing(self._definition) as stream:
            stream.write(yaml.safe_dump(content, sort_keys=False).encode())

    def write_settings(self, variant: str, text: str) -> None:
        with replacing(self.settings(variant)) as stream:
            stream.write(text.encode())

    def write_trial(self, variant: str, drawn: Mapping[str, Any], text: str) -> None:
        """Settings `text`, with the values that were drawn for them."""
        self.write_settings(variant, f"{DRAWN}{json.dumps(drawn)}\n{text}")

    def drawn(self, cell: Cell) -> dict[str, Any]:
        """The values in the settings of a trial; empty if there are none yet."""
        path = self.settings(cell.variant)
        if not cell.variant.startswith(TRIAL) or not path.exists():
            return {}
        return json.loads(path.read_text().partition("\n")[0].removeprefix(DRAWN))

    @property
    def _definition(self) -> Path:
        return self.folder / "study.yaml"


def run_folder(variant: str, seed: int) -> Path:
    """Relative to the folder of the study."""
    return Path("cells", variant, f"seed_{seed}", LOGS, f"{PREFIX}0")
