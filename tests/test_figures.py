import io
import math
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from fashion_lightning.data.labels import CLASSES
from fashion_lightning.reports import figures
from fashion_lightning.reports.differences import compare, pairs
from fashion_lightning.reports.differences_figure import paired_differences, write_figure
from fashion_lightning.storage.cells import Cell

IMAGES = torch.randint(0, 256, (40, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 10


def titles(figure):
    return [(ax.get_title(), ax.title.get_color()) for ax in figure.axes if ax.has_data()]


def assert_nothing_is_cut_off(figure):
    figure.savefig(io.BytesIO())
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def test_samples_show_the_images_under_their_classes():
    figure = figures.sample_grid(IMAGES[:12], LABELS[:12])
    assert [title for title, _ in titles(figure)] == [CLASSES[label] for label in LABELS[:12]]
    for ax, image in zip(figure.axes, IMAGES, strict=False):
        assert torch.equal(torch.from_numpy(ax.images[0].get_array().data), image)
    assert_nothing_is_cut_off(figure)


def test_predictions_say_right_or_wrong_in_words_and_colour():
    predictions = LABELS[:12].clone()
    predictions[3] = 6
    shown = titles(figure := figures.prediction_grid(IMAGES[:12], predictions, LABELS[:12]))
    assert shown[3] == ("Shirt / Dress\nwrong", figures.RED)
    assert shown[4] == ("Coat / Coat\nright", figures.GREEN)
    assert sum("wrong" in title for title, _ in shown) == 1
    assert_nothing_is_cut_off(figure)


def test_mistakes_are_the_most_confident_ones_in_order():
    probabilities = torch.full((40, 10), 0.01)
    probabilities[torch.arange(40), LABELS] = 0.91  # right and more confident than any mistake
    for index, confidence in ((7, 0.5), (21, 0.8), (33, 0.6)):
        probabilities[index] = (1 - confidence) / 9
        probabilities[index, (LABELS[index] + 1) % 10] = confidence
    figure = figures.mistake_grid(IMAGES, probabilities, LABELS)
    assert [title for title, _ in titles(figure)] == [
        "Pullover 80.0%\nis Trouser",
        "Coat 60.0%\nis Dress",
        "Bag 50.0%\nis Sneaker",
    ]
    assert len(titles(figures.mistake_grid(IMAGES, probabilities, LABELS, count=2))) == 2
    assert_nothing_is_cut_off(figure)


def test_a_perfect_prediction_has_no_mistakes():
    assert titles(figures.mistake_grid(IMAGES, torch.eye(10)[LABELS], LABELS)) == []


def test_curves_show_training_and_validation_in_one_chart():
    rows = [{"epoch": e, "train/loss": 1 / e, "val/loss": None if e == 2 else 2 / e} for e in (1, 2, 3)]
    [ax] = (figure := figures.curves(rows, "loss")).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.get_lines()}
    assert lines == {"training": [[1, 1], [2, 0.5], [3, 1 / 3]], "validation": [[1, 2], [3, 2 / 3]]}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize("epochs", [1, 200])
def test_curves_count_epochs_in_whole_numbers(epochs):
    rows = [{"epoch": e + 1, "train/accuracy": 0.5, "val/accuracy": 0.5} for e in range(epochs)]
    figure = figures.curves(rows, "accuracy")
    assert_nothing_is_cut_off(figure)
    [ax] = figure.axes
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(float(tick).is_integer() for tick in ticks)


def test_the_confusion_matrix_has_counts_and_rates():
    counts = torch.eye(10, dtype=torch.int64) * 900
    counts[6, 0], counts[6, 6] = 300, 600
    figure = figures.confusion_matrix(counts)
    ax = figure.axes[0]
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    assert texts[(0, 6)] == "300\n33.3%"
    assert texts[(6, 6)] == "600\n66.7%"
    assert len(texts) == 11
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in labels] == list(CLASSES)
    assert_nothing_is_cut_off(figure)


def test_class_accuracies_are_shares_of_the_actual_class():
    counts = torch.eye(10, dtype=torch.int64) * 3
    counts[6, 0] = 1
    [ax] = (figure := figures.class_accuracies(counts)).axes
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([1] * 6 + [0.75] + [1] * 3)
    assert max(ax.get_xticks()) == 1
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize("names", [["as trained: error 1.24%"], ["as trained: error 1.24%", "with temperature 1.12"]])
def test_a_reliability_diagram_shows_accuracy_and_number_of_images_of_each_bin(names):
    bins = [(0.4, 0.3, 7), (0.95, 0.98, 9_000)]
    figure = figures.reliability_diagram(dict.fromkeys(names, bins))
    above, below = figure.axes
    diagonal, *lines = above.get_lines()
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert [line.get_label() for line in lines] == names
    assert lines[-1].get_xydata().tolist() == [[0.4, 0.3], [0.95, 0.98]]
    assert below.get_lines()[-1].get_xydata().tolist() == [[0.4, 7], [0.95, 9_000]]
    assert_nothing_is_cut_off(figure)


def study(differences: dict[str, list[float]]) -> list[Cell]:
    """Of each variant the percentage points that its pairs differ by; nan is a failed cell."""
    cells = []
    for variant, points in {"baseline": [0.0] * max(map(len, differences.values())), **differences}.items():
        for seed, value in enumerate(points):
            accuracy, status = 0.9 + seed / 1000 + value / 100, "failed" if math.isnan(value) else "finished"
            cells.append(Cell(variant, seed, Path(), status, val_accuracy=accuracy))
    return cells


def drawn(cells: list[Cell]) -> tuple[Figure, list, list]:
    """The figure, and its lines: accuracies from a baseline to a variant, and ends of intervals."""
    comparisons = compare(cells, 0.1)
    figure = paired_differences(cells, comparisons)
    left, right = figure.axes
    lines = [line.get_xydata().tolist() for line in left.get_lines() if len(line.get_xydata()) == 2]
    intervals = [line.get_xdata() for line in right.get_lines() if line.get_marker() == "|"]
    assert_nothing_is_cut_off(figure)
    return figure, lines, intervals


@pytest.mark.parametrize("variants", [1, 3, 10])
def test_a_comparison_shows_every_pair_and_every_interval(variants):
    cells = study({f"model.optimizer.lr=0.00{v}": [v / 4, 0.2 - v, math.nan, 0.3] for v in range(variants)})
    figure, lines, intervals = drawn(cells)
    found = [pair for row in compare(cells, 0.1)[1:] for pair in pairs(cells, row.variant)]
    assert len(lines) == len(found) == 3 * variants
    for (start, end), (baseline, variant) in zip(lines, found, strict=True):
        assert [start[0], end[0]] == [100 * baseline.val_accuracy, 100 * variant.val_accuracy]
        assert end[1] - start[1] == pytest.approx(0.4)
    assert [list(ends) for ends in intervals] == [[100 * row.low, 100 * row.high] for row in compare(cells, 0.1)[1:]]
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == [row.variant for row in compare(cells, 0.1)[1:]]
    assert [text.get_text() for text in right.texts] == ["no difference seen\n3 pairs"] * variants


def test_a_comparison_of_one_pair_has_no_interval_and_of_none_no_line():
    figure, lines, intervals = drawn(study({"wide": [0.5], "bad": [math.nan]}))
    assert (len(lines), intervals) == (1, [])
    assert [text.get_text() for text in figure.axes[1].texts] == ["no interval\n1 pair", "no interval\n0 pairs"]


def test_a_variant_that_collapsed_does_not_squeeze_the_others():
    small = {name: [0.1, 0.2, 0.3] for name in "abc"}
    figure, _, intervals = drawn(study({**small, "collapsed": [-80, -80.1, -80.2]}))
    left, right = figure.axes
    low, high = right.get_xlim()
    assert -2 < low < min(ends[0] for ends in intervals[:3]) < max(ends[1] for ends in intervals[:3]) < high < 2
    assert left.get_xlim()[0] > 88
    assert any("-80.10" in text.get_text() for text in right.texts)


def test_the_figure_of_a_comparison_is_a_file_with_the_same_bytes_again(tmp_path):
    cells = study({"wide": [0.5, 0.6, 0.8]})
    for name in ("one.png", "two.png"):
        write_figure(tmp_path / name, cells, compare(cells, 0.1))
    with Image.open(tmp_path / "one.png") as image:
        assert image.size == (1000, 230)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
