# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The benchmark's own arithmetic and bookkeeping, on tiny work; nothing is timed."""

import json
import subprocess
import sys

import numpy as np
import pytest
from benchmarks import (
    arms,
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
    workloads,
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


def test_p_values_are_corrected_as_holm_has_it():
    # (m - rank) * p in rising order, never below an earlier one, never above 1
    assert common.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )
    assert common.holm([0.9, 0.8]) == [1.0, 1.0]
    assert common.holm([]) == []


def test_a_paired_p_value_is_students():
    # differences 1, 2, 3: t = 2 * sqrt(3) with 2 degrees, two-sided
    assert common.paired_p([2, 4, 6], [1, 2, 3]) == pytest.approx(0.07418, abs=1e-5)
    assert common.paired_p([1, 2], [1, 2]) == 1.0


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
        assert sizes == {"train": 4000, "validation": 5000, "test": 10000}
    assert all(set(rows.y) == set(range(10)) for rows in data.values())


def test_saved_rows_are_those_that_were_loaded():
    pytest.importorskip("sklearn")
    loaded, read = tasks.load("digits"), tasks.read(tasks.saved("digits"))
    assert list(loaded) != [] and set(loaded) == set(read)
    for part, rows in loaded.items():
        np.testing.assert_array_equal(rows.x, read[part].x)
        np.testing.assert_array_equal(rows.y, read[part].y)


def test_a_fifth_of_the_labels_are_redrawn_and_no_others():
    y = np.arange(1000) % 10
    noisy = tasks.redrawn(y)
    assert 140 < np.sum(noisy != y) <= 200  # one in ten is drawn as it was
    assert list(y) == list(np.arange(1000) % 10)


TINY = tasks.Task("tiny", "digits", "mlp", 8, 64, 8)
SETTINGS = {"rate": 0.1, "decay": 0.001, "fraction": 0.5}


def job(arm, task=TINY, **named):
    settings = {name: SETTINGS[name] for name in arms.ARMS[arm]}
    return training.Job(task, arm, settings, seed=7, **named)


def paths():
    return {"digits": tasks.saved("digits")}


def test_equal_seeds_give_equal_rows():
    pytest.importorskip("sklearn")
    task = TINY._replace(network="convnet", width=4, epochs=16)
    own = [arm for arm in arms.ARMS if arm != arms.PEER]
    rows = training.work([job(arm, task) for arm in 2 * own], paths())
    for first, second in zip(rows[: len(own)], rows[len(own) :]):
        assert first == second
        assert first["accuracy"] > 0.3 and first["loss"] > 0


def test_weights_that_were_kept_are_judged_as_in_their_own_process(tmp_path):
    pytest.importorskip("sklearn")
    (row,) = training.work([job("sgd")], paths(), str(tmp_path))
    (judged,) = training.judge_work([job("sgd")], paths(), str(tmp_path))
    assert judged == {kind: pytest.approx(row[kind]) for kind in training.FIGURES}


def test_a_larger_budget_has_more_epochs_and_the_same_start():
    from tensorflow import keras

    long = job("swa", budget=1.5)
    assert [arms.epochs_of(j) for j in (job("swa"), long)] == [8, 12]
    plans = [
        arms.callback(keras, j).plan(arms.epochs_of(j), 1, 0.1, batch_norm=True)
        for j in (job("swa"), long)
    ]
    assert [plan.sampled_epochs for plan in plans] == [[6, 7], [6, 7, 8, 9, 10, 11]]


def test_swas_rate_is_the_fraction_of_the_compiled_one():
    from tensorflow import keras

    plan = arms.callback(keras, job("swa")).plan(8, 1, 0.1)
    assert plan.rates[-1, 0] == pytest.approx(0.05)
    average = arms.exponential(np.array([1.0]), np.array([2.0]), 3)
    assert average == pytest.approx(1.1)  # 0.9 * mean + 0.1 * weights


def test_sgd_has_the_papers_rate():
    from tensorflow import keras

    scheduler = arms.callback(keras, job("sgd", TINY._replace(epochs=10)))
    rates = [scheduler.schedule(epoch) for epoch in range(10)]
    assert rates[:6] == [0.1] * 6  # held to half
    assert rates[7] == pytest.approx(0.1 * (1 - 0.99 / 2))
    assert rates[9] == pytest.approx(0.001)


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


def fake_runs(jobs, title, peer_folder=None):
    """Figures that are best at rate 0.1 and decay 0.002, as if they were trained."""
    rows = []
    for j in jobs:
        rate, decay = j.settings["rate"], j.settings["decay"]
        loss = abs(np.log(rate / 0.1)) + abs(np.log(decay / 0.002)) + j.seed / 1e6
        figures = {"accuracy": -loss, "loss": loss, "calibration_error": loss}
        rows.append({**figures, "own_accuracy": -loss, "own_loss": loss})
    return rows


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """The content of settings.json, chosen with `fake_runs` on one task."""
    jobs = []

    def counted(some, title, peer_folder=None):
        jobs.extend(some)
        return fake_runs(some, title)

    monkeypatch.setattr(training, "many", counted)
    monkeypatch.setattr(choice, "SETTINGS", tmp_path / "settings.json")
    monkeypatch.setattr(tasks, "TASKS", [TINY])
    choice.choose("folder")
    return common.read(choice.SETTINGS), jobs


def test_every_arm_has_as_many_trials_and_the_lowest_loss_is_chosen(chosen):
    content, jobs = chosen
    own = [arm for arm in arms.ARMS if arm not in arms.SETTINGS_FROM]
    trials = choice.DRAWS + choice.KEPT * len(choice.SEEDS)
    assert [sum(j.arm == arm for j in jobs) for arm in own] == [trials] * len(own)
    assert {j.part for j in jobs} == {"validation"}
    for arm in own:
        tried = content["trials"]["tiny"][arm]
        losses = [t["losses"][str(choice.FIRST_SEED)] for t in tried]
        best = tried[int(np.argmin(losses))]
        assert content["chosen"]["tiny"][arm] == choice.settings_of(arm, best)
    assert content["chosen"]["tiny"]["ema"] == content["chosen"]["tiny"]["swa"]


def test_the_arms_have_the_same_rates_and_decays():
    drawn = choice.draws(3)
    pairs = [[(s["rate"], s["decay"]) for s in own] for own in drawn.values()]
    assert all(own == pairs[0] for own in pairs)
    for name, values in arms.SETTINGS.items():
        times = [sum(s[name] == value for s in drawn["swa"]) for value in values]
        assert max(times) - min(times) <= 1


def test_what_was_tried_is_not_tried_again(chosen, monkeypatch):
    monkeypatch.setattr(training, "many", None)
    choice.choose("folder")
    assert common.read(choice.SETTINGS) == chosen[0]


def test_an_ended_measurement_goes_on(chosen, tmp_path, monkeypatch):
    path, jobs = str(tmp_path / "x.json.runs"), chosen[1]
    group = {"task": "tiny", "arm": "sgd", "budget": 1.0, "settings": {"rate": 0.1}}
    group["settings"]["decay"] = 0.002
    del jobs[:]
    first = quality.Runs(path, 3, None).figures_of(group)
    assert len(jobs) == 3 and len(first["loss"]) == 3
    assert quality.Runs(path, 3, None).figures_of(group) == first and len(jobs) == 3
    longer = quality.Runs(path, 5, None).figures_of(group)
    assert [job.seed for job in jobs] == [0, 1, 2, 3, 4]  # the further seeds alone
    assert longer["loss"][:3] == first["loss"] and len(longer["loss"]) == 5
    quality.Runs(path, 4, None).forget()
    assert not (tmp_path / "x.json.runs").exists()


def test_the_settings_were_chosen_with_seeds_of_their_own():
    assert min(choice.FIRST_SEED, *choice.SEEDS) >= 100  # a test has --seeds from 0
    settings = common.read(choice.SETTINGS)
    measured = common.read(readme.RESULTS)["quality"]
    for group in measured["groups"]:  # with these settings, not with older ones
        assert group["settings"] == settings["chosen"][group["task"]][group["arm"]]
    for index, task in enumerate(tasks.TASKS):
        drawn = choice.draws(index)
        for arm, tried in settings["trials"][task.name].items():
            assert [choice.settings_of(arm, t) for t in tried] == drawn[arm]


def test_a_choice_at_an_end_is_marked():
    assert choice.is_at_an_end("rate", 0.0125) and choice.is_at_an_end("rate", 0.4)
    assert not choice.is_at_an_end("rate", 0.1)


def test_overhead_measures_every_arm_as_often():
    case = overhead.Case("graph", "sgd", True, 8, 2, 5, 2)
    (measured,) = overhead.work([case._asdict()], 9, has_null=True)
    assert {arm: len(s) for arm, s in measured["seconds"].items()} == {
        "without": 2,
        "with": 2,
        "null": 2,
    }
    rows = overhead.ratios("this", case, measured)
    kinds = ["training epochs", "null arm", "batch-norm epoch"]
    assert [row["fit"] for row in rows] == kinds
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


def groups_of(arm, values, **named):
    kinds = (*training.FIGURES, *quality.LEFT)
    group = {"task": "mnist mlp", "arm": arm, "budget": 1.0, "settings": {}}
    return {**group, **{kind: values for kind in kinds}, **named}


def test_the_summary_pairs_the_seeds_and_corrects_for_all_comparisons():
    rows = quality.summed(
        [
            groups_of("sgd", [0.1, 0.5, 0.3]),
            groups_of("swa", [0.2, 0.6, 0.4]),
            groups_of("ema", [0.1, 0.9, 0.2]),
        ]
    )
    swa = rows[1]["accuracy"]
    assert swa["minus_sgd"] == pytest.approx(0.1)
    # the differences are equal, whatever the spread of the seeds
    assert swa["low"] == pytest.approx(swa["high"]) == pytest.approx(0.1)
    assert "holm" not in rows[0]["accuracy"]
    four = [row[kind]["p"] for row in rows[1:] for kind in quality.JUDGED]
    told = [row[kind]["holm"] for row in rows[1:] for kind in quality.JUDGED]
    assert told == common.holm(four)


def test_a_verdict_needs_holms_p_and_the_right_side():
    def row(arm, gained, p):
        loss = {"minus_sgd": -gained, "low": 0, "high": 0, "holm": p}
        accuracy = dict(loss, minus_sgd=gained)
        return {"task": "mnist mlp", "arm": arm, "loss": loss, "accuracy": accuracy}

    summary = [row("swa", 0.1, 0.01), row("ema", -0.1, 0.01), row("keras-swa", 1, 0.06)]
    results = {"quality": {"summary": summary}}
    for kind in quality.JUDGED:
        sides = [gains.sides(results, row["arm"], kind) for row in summary]
        assert sides == [
            (["mnist mlp"], [], []),
            ([], ["mnist mlp"], []),
            ([], [], ["mnist mlp"]),
        ]


def test_a_larger_budget_is_compared_with_the_same_budget():
    usual, longer = groups_of("sgd", [1, 1]), groups_of("sgd", [2, 3], budget=1.5)
    swa = groups_of("swa", [3, 5], budget=1.5)
    row = quality.pair_of([usual, longer, swa], swa)
    assert row["accuracy"]["minus_sgd"] == 1.5
    assert (row["usual_accuracy"], row["base_accuracy"]) == (1, 2.5)


def test_the_batch_norm_table_has_a_value_for_each_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(workloads, "EPOCHS", {8: 4})
    monkeypatch.setattr(workloads, "SAMPLES", 1024)
    (row,) = workloads.run(None, is_quick=False)
    assert (row["batches"], row["epochs"], row["package"]) == (8, 4, "this")
    assert len(row["before"]) == len(row["after"]) == len(workloads.SEEDS)


def test_a_part_that_the_file_has_is_passed_over(tmp_path, monkeypatch, capsys):
    import benchmark

    done, path = [], str(tmp_path / "x.json")
    kinds = {name: lambda options: done.append(1) or {} for name in ("a", "b")}
    monkeypatch.setattr(benchmark, "BENCHMARKS", kinds)
    monkeypatch.setattr(common, "environment", dict)
    first = benchmark.parsed(["all", "--seeds=3", "--json", path])
    benchmark.measure("a", first, {})
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


@pytest.mark.parametrize("document", sorted(readme.DOCUMENTS))
@pytest.mark.parametrize("language", readme.LANGUAGES)
def test_the_documents_figures_are_those_of_the_results(document, language):
    page = readme.PAGES[document][readme.LANGUAGES.index(language)]
    text = (ROOT / page).read_text(encoding="utf-8")
    assert readme.rendered(text, common.read(readme.RESULTS)) == text
    blocks = [match[1:3] for match in readme.BLOCK.findall(text)]
    assert sorted(blocks) == sorted((n, language) for n in readme.DOCUMENTS[document])


def test_a_part_that_is_not_measured_has_a_line_and_networks_a_table():
    text = "<!-- benchmark: networks en -->\n<!-- /benchmark -->"
    empty = readme.rendered(text, {})
    assert readme.NOT_MEASURED[0] in empty and "|" not in empty
    figures = dict(first=2.0, second=3.0, peak_mb=10, operations=7, forms=2)
    of_arms = {"plain": [figures], "this": [dict(figures, first=2.5)]}
    measured = {"networks": {"networks": {"LSTM": of_arms}}}
    table = readme.rendered(empty, measured)
    assert "| LSTM | SWA | 2.50 | 3.00 | 1.00 | 10 | 7 | 2 |" in table
    assert readme.rendered(table, measured) == table


def test_results_are_few_lines_and_five_digits(tmp_path):
    path = tmp_path / "results.json"
    content = {"b": [[1, 2.123456789, None], []], "a": {"x": True, "long": [7] * 199}}
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


def test_the_results_hold_every_seed_and_name_no_machine():
    results = common.read(readme.RESULTS)
    groups = results["quality"]["groups"]
    for row in results["quality"]["summary"]:
        own = quality.group_of(groups, row["task"], row["arm"])
        assert len(own["accuracy"]) == results["quality"]["seeds"]
        mean = np.mean(own["accuracy"])
        assert row["accuracy"]["mean"] == pytest.approx(mean, rel=1e-4)  # five digits
    told = json.dumps(results)
    assert "/tmp" not in told and "/home" not in told and "/root" not in told


def test_every_picture_has_a_chinese_twin_and_is_small():
    paths = sorted((ROOT / "test" / "benchmarks" / "pictures").iterdir())
    names = ("cost", "curve", "gain", "schedule")
    assert [path.name for path in paths] == [
        f"{name}{language}.svg" for name in names for language in ("", ".zh")
    ]
    for path in paths:
        assert 1000 < path.stat().st_size < 60000


def test_a_picture_is_drawn_from_figures(tmp_path):
    pytest.importorskip("matplotlib")
    import benchmark_pictures

    figure = benchmark_pictures.schedule({}, benchmark_pictures.Say(False))
    constant, cyclic = figure.axes
    assert cyclic.get_title() == "lr_schedule='cyclic'"
    # a sample is taken at the end of its epoch; the last epoch trains nothing
    assert list(constant.lines[1].get_xdata()) == [*range(31, 41)]
    assert list(cyclic.lines[1].get_xdata()) == [31, 34, 37, 40]
    benchmark_pictures.plt.close(figure)
