"""The promise of a study in TensorBoard: a row a variant, with the mean over its seeds, and the curves of its cells."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler
from tensorboard.util.tensor_util import make_ndarray

from fashion_lightning.command_line.settings import resolve
from fashion_lightning.reports.sessions import write_sessions
from fashion_lightning.storage.cells import Cell
from fashion_lightning.storage.study_folders import run_folder

METRICS = "epoch,step,train/loss,val/accuracy,lr\r\n1,10,0.5,,0.01\r\n2,20,0.25,0.75,0.005\r\n"
FLAGS = {
    "baseline": [],
    "lr=1": ["--model.optimizer.lr", "1"],
    "sgd": ["--model.optimizer", "SGD", "--trainer.gradient_clip_val", "1"],
}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, list[Cell]]:
    """Three variants with two seeds, as `fit` leaves them; the last cell failed."""
    folder, cells = tmp_path_factory.mktemp("study"), []
    for variant, flags in FLAGS.items():
        for seed in (0, 1):
            accuracy = 0.5 + len(cells) / 8
            cell = Cell(variant, seed, run_folder(variant, seed), "finished", "", accuracy, 0.5, 8.0)
            run = folder / cell.folder
            run.mkdir(parents=True)
            (run / "config.yaml").write_text(resolve("fit", [*flags, "--seed_everything", str(seed)]).yaml)
            (run / "metrics.csv").write_text(METRICS)
            cells.append(cell)
    cells[-1] = replace(cells[-1], status="failed", val_accuracy=math.nan)
    return folder, cells


def shown(folder: Path) -> tuple[EventMultiplexer, api_pb2.Experiment, dict[str, api_pb2.SessionGroup]]:
    """What the HPARAMS tab asks TensorBoard for: the columns, and the rows by their names."""
    events = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    context, request = Context(TBContext(data_provider=MultiplexerDataProvider(events, ""))), RequestContext()
    experiment = context.experiment_from_metadata(request, "", True, context.hparams_metadata(request, ""), [])
    query = api_pb2.ListSessionGroupsRequest(
        slice_size=100, allowed_statuses=[api_pb2.STATUS_UNKNOWN], aggregation_type=api_pb2.AGGREGATION_AVG
    )
    groups = Handler(request, context, "", query).run().session_groups
    return events, experiment, {group.name: group for group in groups}


def test_a_variant_is_a_row_with_what_differs_and_the_means_over_its_seeds(study, tmp_path):
    folder, cells = study
    write_sessions(tmp_path, cells, folder)
    _, experiment, rows = shown(tmp_path)
    columns = {info.name for info in experiment.hparam_infos}
    assert columns == {"variant", "optimizer", "optimizer.lr", "optimizer.fused", "gradient_clip_val"}
    assert {name: len(row.sessions) for name, row in rows.items()} == {"baseline": 2, "lr=1": 2, "sgd": 1}
    assert {name: row.hparams["optimizer.lr"].number_value for name, row in rows.items()} == {
        "baseline": 0.01,
        "lr=1": 1.0,
        "sgd": 0.001,
    }
    assert [rows[name].hparams["gradient_clip_val"].string_value for name in FLAGS] == ["null", "null", "1"]
    metrics = {name: {m.name.tag: m.value for m in row.metric_values} for name, row in rows.items()}
    assert [metrics[name]["trained/val_accuracy"] for name in FLAGS] == [0.5625, 0.8125, 1]
    assert metrics["sgd"] == {"trained/val_accuracy": 1, "trained/val_loss": 0.5, "trained/fit_seconds": 8}


def test_every_cell_has_its_curves(study, tmp_path):
    folder, cells = study
    write_sessions(tmp_path, cells, folder)
    events, _, _ = shown(tmp_path)
    assert set(events.Runs()) == {"baseline/seed_0", "baseline/seed_1", "lr=1/seed_0", "lr=1/seed_1", "sgd/seed_0"}
    for run in events.Runs():
        for tag, points in (("train/loss", [(10, 0.5), (20, 0.25)]), ("val/accuracy", [(20, 0.75)])):
            assert [(e.step, make_ndarray(e.tensor_proto)) for e in events.Tensors(run, tag)] == points


def test_sessions_that_are_written_again_replace_the_old_ones(study, tmp_path):
    folder, cells = study
    write_sessions(tmp_path, cells[:2], folder)
    assert [info.name for info in shown(tmp_path)[1].hparam_infos] == ["variant"]
    write_sessions(tmp_path, cells, folder)
    assert len(shown(tmp_path)[1].hparam_infos) == 5
    assert len(list(tmp_path.rglob("events.out.tfevents.*"))) == 5


def test_a_cell_whose_folder_was_removed_is_left_out(study, tmp_path):
    folder, cells = study
    write_sessions(tmp_path, [replace(cells[0], folder=run_folder("baseline", 9)), *cells[1:]], folder)
    assert len(shown(tmp_path)[2]["baseline"].sessions) == 1
