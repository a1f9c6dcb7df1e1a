# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The benchmark's own arithmetic and bookkeeping, on tiny work; nothing is timed."""

import json
import subprocess
import sys

import numpy as np
import pytest
from benchmarks import (
    choice,
    common,
    gains,
    mlp,
    overhead,
    quality,
    readme,
    scaling,
    tasks,
    training,
)
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
    assert training.calibration_error(predicted, np.array([0, 1])) == pytest.approx(0.4)
    # sure and right
    assert training.calibration_error(np.eye(3), np.arange(3)) == 0


@pytest.mark.parametrize("name, package", [("digits", "sklearn"), ("mnist1d",) * 2])
def test_no_row_is_in_two_parts(name, package):
    pytest.importorskip(package)
    data = tasks.load(name)
    parts = [{row.tobytes() for row in rows.x} for rows in data.values()]
    assert sum(map(len, parts)) == len(set().union(*parts))
    sizes = {part: len(rows.y) for part, rows in data.items()}
    if name == "digits":
        assert sizes == {"train": 898, "validation": 300, "test": 599}
    else:
        assert sizes.pop("more") == 10000
        assert sizes == {"train": 4000, "validation": 5000, "test": 1000}
    assert all(set(rows.y) == set(range(10)) for rows in data.values())


def test_a_fifth_of_the_labels_are_redrawn_and_no_others():
    y = np.arange(1000) % 10
    noisy = tasks.redrawn(y)
    assert 140 < np.sum(noisy != y) <= 200  # one in ten is drawn as it was
    assert list(y) == list(np.arange(1000) % 10)


TINY = tasks.Task("digits", "mlp", 8, 64, 8, 0.1, 0.002)


def job(arm, seed=7, **named):
    return training.Job(tasks.Task(*named.pop("task", TINY)), arm, 0.1, 0.001, seed)


def test_equal_seeds_give_equal_rows():
    pytest.importorskip("sklearn")
    task = TINY._replace(network="convnet", width=4, epochs=16)
    arms = ("sgd", "swa constant", "swa cyclic", "swa auto")
    rows = training.work([job(arm, task=task) for arm in 2 * arms])
    for first, second in zip(rows[: len(arms)], rows[len(arms) :]):
        assert first == second
        assert first["accuracy"] > 0.3 and first["loss"] > 0


def test_weights_that_were_kept_are_judged_as_in_their_own_process(tmp_path):
    pytest.importorskip("sklearn")
    (row,) = training.work([job("sgd")], str(tmp_path))
    (judged,) = training.judge_work([job("sgd")], str(tmp_path))
    assert judged == {kind: pytest.approx(row[kind]) for kind in training.FIGURES}


def test_three_quarters_of_the_epochs_are_a_run_of_their_own():
    arms = "sgd", "swa constant", "swa three quarters"
    assert [training.epochs_of(job(arm)) for arm in arms] == [8, 8, 6]


def test_sgd_has_the_papers_rate():
    rates = []
    scheduler = lambda rate: rates.append(rate)  # noqa: E731
    keras = type("K", (), {})
    keras.callbacks = type("C", (), {"LearningRateScheduler": staticmethod(scheduler)})
    training.sgd(keras, job("sgd", task=TINY._replace(epochs=10)))
    told = [rates[0](epoch) for epoch in range(10)]
    assert told[:6] == [0.1] * 6  # held to half
    assert told[7] == pytest.approx(0.1 * (1 - 0.99 / 2))
    assert told[9] == pytest.approx(0.001)


def test_the_numpy_network_is_the_trained_one():
    pytest.importorskip("sklearn")
    data = tasks.load("digits")
    model, row = training.trained(job("sgd"), data)
    _, accuracy = mlp.figures(model.get_weights(), data["train"], data["test"])
    # one test image in 599 may lie on the border of two classes
    assert accuracy == pytest.approx(row["accuracy"], abs=4e-3)


def random_mlp(seed):
    generator = np.random.RandomState(seed)
    shapes = [(64, 8), *[(8,)] * 4, (8, 8), *[(8,)] * 4, (8, 10), (10,)]
    weights = [generator.normal(size=shape) for shape in shapes]
    rows = [
        tasks.Rows(generator.normal(size=(n, 64)), np.arange(n) % 10) for n in (9, 5)
    ]
    return weights, rows


def test_the_rise_is_that_of_the_units_whatever_their_length():
    weights, rows = random_mlp(0)
    risen = mlp.rise(weights, *rows)
    assert len(risen) == len(mlp.NOISE) and risen[-1] > 0
    scaled = list(weights)
    # batch norm takes the length of a kernel out, up to its epsilon
    scaled[0], scaled[5] = 10 * weights[0], 10 * weights[5]
    np.testing.assert_allclose(mlp.rise(scaled, *rows), risen, rtol=0.05, atol=1e-3)


def test_a_surface_has_its_points_at_the_weights():
    (first, rows), (last, _) = random_mlp(0), random_mlp(1)
    average = [(a + b) / 2 + 0.1 for a, b in zip(first, last)]
    told = mlp.surface(first, last, average, *rows, side=3)
    assert told["points"][0] == [0.0, 0.0]
    distance = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(first, average)))
    assert np.hypot(*told["points"][2]) == pytest.approx(distance)
    assert np.shape(told["train_loss"]) == np.shape(told["test_error"]) == (3, 3)


def fake_runs(jobs, title, peer_folder=None):
    """Figures that are best at rate 0.8 and decay 0.002, as if they were trained."""
    off = [abs(np.log(j.rate / 0.8)) + abs(np.log(j.decay / 0.002)) for j in jobs]
    return [{"accuracy": -one, "loss": one, "calibration_error": one} for one in off]


def test_a_grid_grows_until_no_choice_is_on_its_edge(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "many", fake_runs)
    monkeypatch.setattr(choice, "SETTINGS", tmp_path / "settings.json")
    monkeypatch.setattr(tasks, "TASKS", [TINY])
    choice.choose(None)
    content = common.read(choice.SETTINGS)
    assert content["grids"][TINY.name]["rate"] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6]
    assert content["grids"][TINY.name]["decay"] == [0.001, 0.002, 0.004]
    assert content["chosen"][TINY.name]["sgd"] == {"accuracy": [0.8, 0.002]}
    assert len(content["tried"]) == 4 * 6 * 3  # each candidate once, without keras-swa
    assert "edge" not in capsys.readouterr().out
    choice.choose("folder")  # goes on with keras-swa
    content = common.read(choice.SETTINGS)
    assert len(content["tried"]) == 5 * 6 * 3
    assert content["chosen"][TINY.name][training.PEER_ARM] == {"accuracy": [0.8, 0.002]}
    monkeypatch.setattr(training, "many", None)
    choice.choose("folder")  # all of it is known


def test_a_choice_that_stays_on_an_edge_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "many", fake_runs)
    monkeypatch.setattr(choice, "SETTINGS", tmp_path / "settings.json")
    monkeypatch.setattr(choice, "GROWTHS", 1)
    monkeypatch.setattr(tasks, "TASKS", [TINY])
    choice.choose(None)
    assert "still on an edge of its grid: rate" in capsys.readouterr().out


def test_the_settings_were_chosen_with_seeds_of_their_own():
    settings = common.read(choice.SETTINGS)
    assert min(settings["seeds"]) >= 100  # a test has --seeds from 0
    measured = common.read(readme.RESULTS)["quality"]
    for task in measured["tasks"]:  # with these settings, not with older ones
        name = f"{task['data']} {task['network']}"
        assert measured["settings"][name] == settings["chosen"][name]
    for task, arms in settings["chosen"].items():
        tried = [one for one in settings["tried"] if one["task"] == task]
        grid = settings["grids"][task]
        for arm, chosen in arms.items():
            own = [
                one
                for one in tried
                if one["arm"] == arm
                and all(one[name] in values for name, values in grid.items())
            ]  # the same candidates for each
            assert len(own) == len(grid["rate"]) * len(grid["decay"])
            for by, (rate, decay) in chosen.items():
                (one,) = [o for o in own if (o["rate"], o["decay"]) == (rate, decay)]
                assert one[by] == choice.chosen(own, arm, by)[by]  # others may be equal


def test_a_choice_on_an_edge_is_told_in_the_documents():
    measured = {
        "settings": {"mnist1d mlp": {"sgd": {"accuracy": [0.2, 0.01]}}},
        "grids": {"mnist1d mlp": {"rate": [0.1, 0.2, 0.4], "decay": [0.001, 0.01]}},
    }
    told = gains.settings({"quality": measured})
    assert told.endswith("edge of the grid 仍在网格边缘: MNIST-1D MLP (SGD)")
    measured["grids"]["mnist1d mlp"]["decay"].append(0.1)
    assert "edge" not in gains.settings({"quality": measured})


def test_equal_settings_are_one_group():
    chosen = {
        "sgd": {"accuracy": [0.1, 0.01], "loss": [0.1, 0.01]},
        "swa constant": {"accuracy": [0.1, 0.01], "loss": [0.2, 0.01]},
    }
    groups = [group for arm in chosen for group in quality.groups_of(TINY, arm, chosen)]
    assert [(g["arm"], g["by"], g["rate"]) for g in groups] == [
        ("sgd", ["accuracy", "loss"], 0.1),
        ("swa constant", ["accuracy"], 0.1),
        ("swa constant", ["loss"], 0.2),
    ]


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
    groups = [
        {"task": "t", "arm": arm, "by": ["accuracy"], "accuracy": values}
        for arm, values in (("sgd", [0.1, 0.5]), ("x", [0.2, 0.6]))
    ]
    told = quality.summed("t", "x", groups)["accuracy"]
    assert told["minus_sgd"] == pytest.approx(0.1)
    # the differences are equal, whatever the spread of the seeds
    assert told["low"] == pytest.approx(told["high"]) == pytest.approx(0.1)


def test_a_part_that_the_file_has_is_passed_over(tmp_path, monkeypatch, capsys):
    import benchmark

    done, path = [], str(tmp_path / "x.json")
    kinds = {name: lambda options: done.append(1) or {} for name in ("a", "b")}
    monkeypatch.setattr(benchmark, "BENCHMARKS", kinds)
    monkeypatch.setattr(common, "environment", dict)
    first, _ = benchmark.parsed(["all", "--seeds=3"])
    benchmark.measure("a", first, {}, path)
    benchmark.main(["all", "--seeds=3", "--json", path])
    assert len(done) == 2 and "a: passed over" in capsys.readouterr().out
    assert set(common.read(path)) == {"a", "b"}
    benchmark.main(["all", "--seeds=4", "--json", path])
    assert len(done) == 4


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


def test_a_file_that_holds_no_figures_is_one_line(tmp_path):
    (tmp_path / "x.json").write_text("{")
    done = run("all", "--json=x.json", cwd=str(tmp_path))
    assert done.returncode == 2
    assert "--json must hold figures" in done.stderr and done.stderr.count("\n") == 1


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
    groups = results["quality"]["groups"]
    for one in results["quality"]["summary"]:
        own = quality.group_of(groups, one["task"], one["arm"], "accuracy")
        assert len(own["accuracy"]) == results["quality"]["seeds"]
        mean = np.mean(own["accuracy"])
        assert one["accuracy"]["mean"] == pytest.approx(mean, rel=1e-4)  # five digits
    told = json.dumps(results)
    assert "/tmp" not in told and "/home" not in told and "/root" not in told


def test_the_pictures_are_small():
    paths = sorted((ROOT / "test" / "benchmarks" / "pictures").iterdir())
    assert [path.stem for path in paths if path.stem != "networks"] == [
        *("curve", "overhead", "schedule", "surface", "width")
    ]
    for path in paths:
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
