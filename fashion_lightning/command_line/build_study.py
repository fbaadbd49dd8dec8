"""A study from its flags: its variants, parsed and checked as fit would, and what is there of it already."""

import dataclasses
import math
import os
import shlex
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import yaml
from jsonargparse import Namespace
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.accelerators import CUDAAccelerator
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from fashion_lightning.command_line import build, checks, settings, starting, variants
from fashion_lightning.command_line.messages import explain
from fashion_lightning.data.pictures import available_memory
from fashion_lightning.errors import OF_SETTINGS, UserError
from fashion_lightning.jobs.study import Study, cells_of, planned, queue_of
from fashion_lightning.jobs.study_plan import Plan, seconds_of
from fashion_lightning.reports.differences import BASELINE
from fashion_lightning.storage.study_folders import SAMPLERS, STUDIES, WINNER, Definition, Search, StudyFolder
from fashion_lightning.training.turns import CHOSEN, WAITING, available_cores

# Before the user's flags: a study needs no pictures of each of its cells.
FIRST = ("--inspect.figures=false", "--inspect.graph=false", "--inspect.pr_curves=false")
LAST = ("--evaluate_test=false",)
BYTES_OF_CELL = 1.2e9  # of memory, for the number of workers
# What decides which images are validated.
OF_VALIDATION = (
    *("data.data_dir", "data.val_fraction", "data.split_seed", "data.verify", "data.eval_batch_size"),
    *("trainer.limit_val_batches", "trainer.limit_test_batches"),
)


@dataclass(frozen=True)
class Variant:
    config: Namespace
    yaml: str
    gpus: list[int]  # of a cell, by index
    seconds: float  # of a cell, about; nan if it was not measured


def study(found: settings.Settings) -> Study | Plan:
    config = found.config
    start_seconds = time.process_time()  # which a cell takes too, before it trains
    _check_flags(config)
    storage, place = _storage(config.storage), StudyFolder(found.root / STUDIES / config.name)
    checks.check_writable("--trainer.default_root_dir", place.folder)
    named, space = variants.flags_of_variants(config), variants.search_space(config)
    if space and len(named) > 1:
        raise UserError("--search: expected no --variant or --vary beside it: search first, then compare")
    named |= {" ".join(flags): flags for flags in variants.corners(space)}
    made = {name: _checked(found.args, name, flags, config.dry_run) for name, flags in named.items()}
    _check_alike(config, made)
    before = place.read()
    definition = _definition(config, made, before, place)
    variables = _variables(config, made[BASELINE].gpus)
    if config.dry_run:
        cells = planned(definition)
        if before:
            cells = queue_of(place, definition, storage).states(cells)
        seconds = {name: variant.seconds + start_seconds for name, variant in made.items()}
        seconds = {cell.variant: seconds.get(cell.variant, max(seconds.values())) for cell in cells}
        return Plan(cells, len(variables), config.threads, seconds, config.retry_failed)

    def settings_of(drawn: Mapping[str, str]) -> str:
        flags = variants.words_of(drawn)
        return _checked(found.args, " ".join(flags), flags).yaml

    args = list(found.args)
    if storage:
        args = [word.replace(config.storage, storage.render_as_string()) for word in args]  # without its password
    return Study(
        place=place,
        definition=definition,
        before=before,
        storage=storage,
        variables=variables,
        space=space,
        settings_of=settings_of,
        points=config.difference,
        retry_failed=config.retry_failed,
        test_winner=config.test_winner,
        again=shlex.join(["python", "-m", "fashion_lightning.study", *args]),
    )


def _definition(
    config: Namespace, made: Mapping[str, Variant], before: Definition | None, place: StudyFolder
) -> Definition:
    """What was typed, added to what is there."""
    ranges = dict(text.removeprefix("--").split("=", 1) for text in config.search)
    search = Search(ranges, config.trials, config.sampler, config.seed_everything) if ranges else None
    texts = {name: variant.yaml for name, variant in made.items() if not search or name == BASELINE}
    kept = [*(text.partition("=")[0] for text in config.variant), *(before.settings if before else ())]
    texts = _without_repeats(texts, kept)
    typed = Definition(uuid.uuid4().hex, texts, variants.seeds_of(config), config.threads, search)
    return _extended(before, typed, place) if before else typed


def _check_flags(config: Namespace) -> None:
    if not config.name or not variants.NAME.fullmatch(config.name):
        raise UserError(f"--name: expected a name for the study, of {variants.OF_NAMES}, got {config.name or 'none'}")
    for flag in ("workers", "threads", "trials"):
        value = config[flag]
        if value is not None and value < 1:
            raise UserError(f"--{flag}: expected 1 or more, got {value}")
    if not 0 < config.difference < math.inf:
        raise UserError(f"--difference: expected more than 0 percentage points, got {config.difference}")
    if config.sampler not in SAMPLERS:
        raise UserError(f"--sampler: expected {' or '.join(SAMPLERS)}, got {config.sampler}")


def _storage(text: str | None) -> URL | None:
    try:
        url = make_url(text) if text is not None else None
    except (ArgumentError, ValueError):
        url = URL.create("sqlite")
    if url and url.get_backend_name() == "sqlite":
        expected = "the URL of a database server, as postgresql+psycopg2://user@host/name"
        raise UserError(f"--storage: expected {expected}, got {text}; for one machine leave it out")
    return url


def _checked(args: Sequence[str], name: str, flags: Sequence[str], is_timed: bool = False) -> Variant:
    """Raises UserError, which names the variant, if fit would not take its settings."""
    try:
        resolved = settings.resolve("study", [*FIRST, *args, *flags, *LAST])
        _check_results(resolved.config.trainer)
        fit = build.fit(resolved)
    except (MisconfigurationException, *OF_SETTINGS) as error:
        problem = str(error) if isinstance(error, UserError) else explain(str(error))
        raise UserError(f"{_where(name)}{problem}") from error
    config = resolved.config
    one = {key: config.trainer[key] for key in ("accelerator", "precision", "accumulate_grad_batches")}
    seconds = seconds_of(fit, {**one, "devices": 1}, config.threads) if is_timed else math.nan
    gpus = fit.trainer.device_ids if isinstance(fit.trainer.accelerator, CUDAAccelerator) else []
    return Variant(config, resolved.yaml, gpus, seconds)


def _where(name: str) -> str:
    """Of an error: the variant, or the flags of an end of a range."""
    return "" if name == BASELINE else f"with {name}: " if name.startswith("--") else f"variant {name}: "


def _check_results(flags: Namespace) -> None:
    """Raises UserError if a cell would leave no results where the study looks for them."""
    for name in ("barebones", "fast_dev_run"):
        if flags[name]:
            raise UserError(f"--trainer.{name}: expected none in a study, which needs the results of its runs")
    if flags.limit_test_batches == 0:
        raise UserError("--trainer.limit_test_batches: expected more than 0 in a study: results are of so many batches")
    if flags.enable_checkpointing is False:
        raise UserError("--trainer.enable_checkpointing: expected true in a study, which resumes its cells")
    if not isinstance(flags.logger, bool | None):
        raise UserError("--trainer.logger: expected none of your own in a study: its folder is not known here")


def _check_alike(config: Namespace, made: Mapping[str, Variant]) -> None:
    """Raises UserError if variants would change the study, or accuracies would be of other images, or of none."""
    baseline = made[BASELINE].config
    for name, variant in made.items():
        for flag in variants.FLAGS:
            if variant.config[flag] != config[flag]:
                raise UserError(f"{_where(name)}expected flags of fit, got --{flag}, which is one of the study")
        for key in OF_VALIDATION:
            if variant.config[key] != baseline[key]:
                raise UserError(f"{_where(name)}expected the validation images of the baseline, got another --{key}")
        if variant.config.seed_everything != baseline.seed_everything:
            raise UserError(f"{_where(name)}expected no --seed_everything: every variant has the seeds of --seeds")
    if len(made) > 1 and (baseline.data.val_fraction == 0 or baseline.trainer.limit_val_batches == 0):
        raise UserError("--data.val_fraction: expected more than 0: variants are compared by validation accuracy")


def _without_repeats(texts: dict[str, str], given: Sequence[str]) -> dict[str, str]:
    """Says which variants are the same, and leaves out those of a grid that are the baseline."""
    kept: dict[str, str] = {}
    for name, text in texts.items():
        same = next((other for other, its in kept.items() if its == text), None)
        if same and name not in given:
            print(f"{name} is the same as {same}, and is left out")
            continue
        if same:
            print(f"{name} has the same settings as {same}")
        kept[name] = text
    return kept


def _extended(before: Definition, typed: Definition, place: StudyFolder) -> Definition:
    """What was typed, which may add variants, seeds and trials. Raises UserError if it changes anything else."""
    problems = []
    for name, text in before.settings.items():
        if name == WINNER:
            continue
        if name not in typed.settings:
            problems.append(f"variant {name} is missing")
            continue
        parts = yaml.safe_load(text), yaml.safe_load(typed.settings[name])
        problems += [f"{name}: {line}" for line in starting.departures(*parts, starting.COMPARED, of="study")]
    if missing := [str(seed) for seed in before.seeds if seed not in typed.seeds]:
        problems.append(f"of its seeds, {', '.join(missing)} are missing")
    if typed.threads != before.threads:
        problems.append(f"--threads {typed.threads}, in the study: {before.threads}")
    if bool(typed.search) != bool(before.search):
        problems.append("no --search" if before.search else "--search, in the study: none")
    if before.search and typed.search:
        now, then = dataclasses.asdict(typed.search), dataclasses.asdict(before.search)
        differ = [name for name in now if (now[name] < then[name] if name == "trials" else now[name] != then[name])]
        problems += [f"{name} of the search {now[name]}, in the study: {then[name]}" for name in differ]
    if problems:
        remedy = "give its flags, to which variants, seeds and trials may be added, or choose another --name"
        raise UserError(f"{place.folder} is another study: {'; '.join(problems)}; {remedy}")
    if before.winner and typed.search != before.search:
        raise UserError(
            f"{place.folder}: its winner is compared already, so that no trials can be added; choose another --name"
        )
    settings_ = typed.settings | {name: before.settings[name] for name in before.settings if name == WINNER}
    added = set(typed.seeds) - set(before.seeds)
    if before.tested and (added or settings_.keys() != before.settings.keys()):
        raise UserError(f"{place.folder} has ended with its test set: to compare more, choose another --name")
    is_look = added and any(place.run(cell).results.is_file() for cell in cells_of(before))
    looks = before.looks + bool(is_look)
    return dataclasses.replace(before, settings=settings_, seeds=typed.seeds, search=typed.search, looks=looks)


def _variables(config: Namespace, gpus: list[int]) -> list[dict[str, str]]:
    """Of the environment, for each worker: its threads, and which GPU it has, unless the flags say which ones."""
    cores, names = len(available_cores()), [""]
    if gpus == [0]:
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        names = visible or [str(index) for index in range(torch.cuda.device_count())]
    fitting = max(1, int(min(cores / config.threads, available_memory() / BYTES_OF_CELL)))
    workers = config.workers or (len(names) if gpus else fitting)
    variables = {"OMP_NUM_THREADS": str(config.threads)}
    if workers * config.threads > cores and not any(name in os.environ for name in CHOSEN):
        variables[WAITING] = "PASSIVE"  # threads that wait for each other leave the cores to others
    of_gpu = [{"CUDA_VISIBLE_DEVICES": name} if name else {} for name in names]
    return [{**variables, **of_gpu[worker % len(names)]} for worker in range(workers)]
