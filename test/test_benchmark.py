# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The benchmark's own arithmetic and bookkeeping, on tiny work; nothing is timed."""

import json
import subprocess
import sys

import numpy as np
import pytest
from benchmarks import common, overhead, quality, readme, scaling
from conftest import IS_EAGER, ROOT

pytestmark = pytest.mark.skipif(IS_EAGER, reason="measures graph mode")
BENCHMARK = str(ROOT / "test" / "benchmark.py")


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, BENCHMARK, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        timeout=120,
        **options,
    )


def test_a_median_lies_in_its_interval_and_equal_values_have_none():
    median, low, high = common.median_interval([3.0, 1.0, 2.0, 10.0, 2.5])
    assert median == 2.5 and low < median < high
    assert common.median_interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)


def test_a_means_interval_is_students():
    mean, low, high = common.mean_interval([1.0, 2.0, 3.0])
    # t(0.975, 2 degrees) = 4.30265, standard error 1 / sqrt(3)
    assert mean == 2.0
    assert high - mean == pytest.approx(4.30265 / np.sqrt(3), rel=1e-5)
    assert low == pytest.approx(4 - high)
    assert common.mean_interval([1.0]) == (1.0, None, None)


def test_ratios_are_paired_and_the_best_runs_are_compared():
    told = common.compared([2.0, 6.0, 4.0], [1.0, 2.0, 4.0])
    assert told["median"] == 2.0
    assert told["best"] == 2.0


def test_the_calibration_error_is_the_gap_of_confidence_and_accuracy():
    # both rows of one bin: mean confidence 0.9, half of them right
    predicted = np.array([[0.9, 0.1], [0.9, 0.1]])
    assert quality.calibration_error(predicted, np.array([0, 1])) == pytest.approx(0.4)
    # sure and right
    assert quality.calibration_error(np.eye(3), np.arange(3)) == 0


def test_no_validation_row_is_a_test_row():
    pytest.importorskip("sklearn")
    x, _, x_validation, _ = quality.held_out("digits", is_validation=True)
    _, _, x_test, _ = quality.held_out("digits")
    found = {row.tobytes() for row in quality.images("digits")[0]}
    whole = quality.images("digits")[0]
    assert len(found) == len(whole)  # no two images are equal
    for one, other in ((x, x_test), (x_validation, x_test), (x, x_validation)):
        assert not {r.tobytes() for r in one} & {r.tobytes() for r in other}


def test_the_settings_were_chosen_with_seeds_of_their_own():
    settings = common.read(quality.SETTINGS)
    assert min(settings["seeds"]) >= 100  # a test has --seeds from 0
    arms = quality.OWN_ARMS + [quality.PEER_ARM]
    for task in quality.TASKS:
        for arm in arms:
            tried = [
                one
                for one in settings["tried"]
                if (one["task"], one["arm"]) == (task.name, arm)
            ]
            best = min(tried, key=lambda one: one["loss"])
            assert settings["chosen"][task.name][arm] == best["rates"]
            assert len(tried) == 5  # as many candidates for each


@pytest.mark.parametrize("arm", quality.OWN_ARMS)
def test_equal_seeds_give_equal_rows(arm):
    pytest.importorskip("sklearn")
    task = quality.Task("digits", "convnet", 64, 4)
    rates = {"sgd": [0.05], "swa constant": [0.05, 0.01]}.get(arm, [0.05, 0.01, 0.02])
    first, second = quality.seeds_work([(task, arm, rates, 7), (task, arm, rates, 7)])
    assert first == second
    assert first["accuracy"] > 0.3 and first["loss"] > 0


def test_the_surfaces_numpy_network_is_the_trained_one():
    pytest.importorskip("sklearn")
    task = quality.Task("digits", "mlp", 256, 3)
    x, y, x_test, y_test = data = quality.held_out("digits")
    keras = quality.fresh(0)
    model = quality.compiled(keras, task, x, [0.1])
    model.fit(x, y, 256, 2, verbose=0)
    from swa.tfkeras import update_bn

    update_bn(model, x)
    _, accuracy = quality.figures_of(model.get_weights(), data)
    # one test image in 599 may lie on the border of two classes
    assert accuracy == pytest.approx(model.evaluate(x_test, y_test, verbose=0)[1], 2e-3)
    keras.backend.clear_session()


def test_a_surface_has_its_points_at_the_weights():
    generator = np.random.RandomState(0)
    shapes = [(64, 8), (8,), (8,), (8,), (8,), (8,)]
    shapes += [(8, 8), (8,), (8,), (8,), (8,), (8,), (8, 10), (10,)]
    first, last = ([generator.normal(size=s) for s in shapes] for _ in range(2))
    average = [(a + b) / 2 + 0.1 for a, b in zip(first, last)]
    data = (
        generator.normal(size=(9, 64)),
        np.arange(9),
        generator.normal(size=(5, 64)),
        np.arange(5),
    )
    told = quality.surface(first, last, average, data, side=3)
    assert told["points"][0] == [0.0, 0.0]
    distance = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(first, average)))
    assert np.hypot(*told["points"][2]) == pytest.approx(distance)
    assert np.shape(told["train_loss"]) == np.shape(told["test_error"]) == (3, 3)


def test_overhead_measures_every_arm_as_often():
    case = overhead.Case("graph", "sgd", True, 8, 2, 5, 2)
    (measured,) = overhead.work([case._asdict()], 9, has_null=True)
    assert {arm: len(s) for arm, s in measured["seconds"].items()} == {
        "without": 2,
        "with": 2,
        "null": 2,
    }
    rows = overhead.ratios("this", case, measured)
    assert [row["fit"] for row in rows] == ["with / without", "null arm"]
    calls = rows[0]["session_calls"]
    assert calls[0] <= calls[1] <= calls[0] + 2


def test_a_fold_is_timed_beside_numpy_and_a_copy():
    (measured,) = scaling.fold_work([(1000, 2)], 2)
    for name in ("fold", "numpy", "copy"):
        assert len(measured[name + "_seconds"]) == 2


def test_a_checkpoint_is_written_and_read_as_often():
    (measured,) = scaling.checkpoint_work([1000], 2)
    assert len(measured["write_seconds"]) == len(measured["read_seconds"]) == 2
    assert measured["bytes"] > 2 * 4 * 1000  # weights and average


def test_the_summary_pairs_the_seeds():
    rows = [
        {"task": "t", "arm": arm, "seed": seed, "accuracy": value, "loss": 1.0}
        for arm, values in (("sgd", [0.1, 0.5]), ("x", [0.2, 0.6]))
        for seed, value in enumerate(values)
    ]
    for row in rows:
        row["calibration_error"] = 0.0
    told = quality.summed("t", "x", rows)["accuracy"]
    assert told["minus_sgd"] == pytest.approx(0.1)
    # the differences are equal, whatever the spread of the seeds
    assert told["low"] == pytest.approx(told["high"]) == pytest.approx(0.1)


def test_a_process_with_another_swa_is_refused(tmp_path):
    (tmp_path / "swa").mkdir()
    done = run("--worker", "common.versions_work", "{}", tmp_path, tmp_path / "out")
    assert done.returncode != 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, told",
    [
        ([], "a NAME or --update-readme must be given"),
        (["fold"], "invalid choice: 'fold'"),
        (["overhead", "--rounds=0"], "must be an integer >= 1, got '0'"),
        (["scaling", "--json=nowhere/x.json"], "--json must be a file in an existing"),
        (["scaling", "--choose"], "--choose must come with quality"),
    ],
    ids=["nothing", "unknown", "rounds", "json", "choose"],
)
def test_a_wrong_argument_is_one_line(arguments, told, tmp_path):
    done = run(*arguments, cwd=str(tmp_path))
    assert done.returncode == 2
    assert told in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not readme.RESULTS.exists(), reason="nothing measured yet")
@pytest.mark.parametrize("name", sorted(readme.DOCUMENTS))
def test_the_documents_figures_are_those_of_the_results(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert readme.rendered(text, common.read(readme.RESULTS)) == text
    found = {" ".join(match[1:3]).strip() for match in readme.BLOCK.findall(text)}
    assert found == readme.DOCUMENTS[name]


def test_a_part_that_is_not_measured_has_a_line_and_networks_a_table():
    text = "<!-- benchmark: networks -->\n<!-- /benchmark -->"
    empty = readme.rendered(text, {})
    assert readme.NOT_MEASURED in empty and "|" not in empty
    figures = dict(first=2.0, second=3.0, peak_mb=10, operations=7, forms=2)
    arms = {"plain": [figures], "this": [dict(figures, first=2.5)]}
    measured = {"networks": {"networks": {"LSTM": arms}}}
    told = readme.rendered(empty, measured)
    assert "| LSTM | SWA | 2.50 | 1.25 | 3.00 | 1.00 | 10 | 7 | 2 |" in told
    assert readme.rendered(told, measured) == told


def test_results_are_few_lines_and_five_digits(tmp_path):
    path = tmp_path / "results.json"
    content = {"b": [[1, 2.123456789, None], []], "a": {"x": True, "long": [7] * 99}}
    common.write(path, content)
    assert common.read(path) == dict(content, b=[[1, 2.1235, None], []])
    assert [line[:8] for line in path.read_text().splitlines()][:3] == [
        "{",
        ' "a": {',
        '  "long"',
    ]
    with pytest.raises(ValueError):
        common.write(path, [float("nan")])
    assert len(readme.RESULTS.read_text().splitlines()) <= 1500


@pytest.mark.skipif(not readme.RESULTS.exists(), reason="nothing measured yet")
def test_the_results_hold_every_seed_and_name_no_machine():
    results = common.read(readme.RESULTS)
    rows = results["quality"]["rows"]
    for one in results["quality"]["summary"]:
        own = [r for r in rows if (r["task"], r["arm"]) == (one["task"], one["arm"])]
        assert [row["seed"] for row in own] == list(range(results["quality"]["seeds"]))
        mean = np.mean([row["accuracy"] for row in own])
        assert one["accuracy"]["mean"] == pytest.approx(mean, rel=1e-4)  # five digits
    told = json.dumps(results)
    assert "/tmp" not in told and "/home" not in told and "/root" not in told


@pytest.mark.parametrize("name", ["schedule", "curve", "overhead", "surface"])
def test_the_pictures_are_small(name):
    path = ROOT / "test" / "benchmarks" / "pictures" / f"{name}.png"
    assert 1000 < path.stat().st_size < 60000


def test_a_picture_is_drawn_from_figures(tmp_path):
    pytest.importorskip("matplotlib")
    import benchmark_pictures

    figure = benchmark_pictures.schedule({})
    axes = figure.axes[1]
    assert axes.get_title() == "lr_schedule='cyclic'"
    # the samples of a cycle of three from epoch 15 on, the last epoch left out
    assert list(axes.lines[1].get_xdata()) == [15, 18, 21, 24, 27, 30]
    benchmark_pictures.plt.close(figure)
