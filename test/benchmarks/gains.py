# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The tables of what SWA gains, from the part `quality` of `results.json`.

Every table is written in English or in Chinese.
"""

from benchmarks import arms, choice, common, tasks

ARMS = {
    "sgd": ("SGD", "SGD"),
    "sgd constant": ("SGD, constant rate", "SGD，学习率不变"),
    "swa": ("SWA", "SWA"),
    "ema": ("exponential average", "指数平均"),
    "keras-swa": ("keras-swa 0.1.7", "keras-swa 0.1.7"),
}
COMPARED = [arm for arm in ARMS if arm != arms.BASE]
TASKS = {
    "noisy mnist mlp": ("MNIST MLP, noisy labels", "MNIST MLP，标签带噪"),
    "noisy mnist convnet": ("MNIST ConvNet, noisy labels", "MNIST 卷积网络，标签带噪"),
    "mnist mlp": ("MNIST MLP", "MNIST MLP"),
    "mnist convnet": ("MNIST ConvNet", "MNIST 卷积网络"),
    "mnist1d mlp": ("MNIST-1D MLP", "MNIST-1D MLP"),
    "mnist1d convnet": ("MNIST-1D ConvNet", "MNIST-1D 卷积网络"),
    "mnist1d mlp, batch 8": ("MNIST-1D MLP, batch 8", "MNIST-1D MLP，batch 8"),
    "digits mlp": ("digits MLP", "digits MLP"),
    "digits convnet": ("digits ConvNet", "digits 卷积网络"),
}
KINDS = {"accuracy": ("accuracy", "准确率"), "loss": ("loss", "损失")}
LEVEL = 0.05  # of a verdict, after Holm's correction
# accuracy in % on CIFAR-100 by the paper's authors: swa_lr, rate, SGD, SWA with 1 and
# 1.5 budgets; the rates are those of their commands, github.com/timgaripov/swa
PUBLISHED = {
    "VGG16": (0.01, 0.05, 72.55, 73.91, 74.27),
    "PreResNet110": (0.05, 0.1, 76.77, 78.75, 79.10),
    "PreResNet164": (0.05, 0.1, 78.49, 79.77, 80.35),
    "WideResNet28x10": (0.05, 0.1, 80.82, 81.46, 82.15),
}


def table(is_chinese, heads, rows):
    """A Markdown table whose heads are pairs of English and Chinese."""
    return common.markdown_table([head[is_chinese] for head in heads], rows)


def signed(value, scale=100, digits=2):
    """A difference as text, in points of accuracy if nothing else is given."""
    return f"{scale * value:+.{digits}f}".replace("-", "−")


def interval(figures, kind):
    """A paired difference to SGD with its interval, bold where Holm leaves it."""
    if figures["low"] is None:
        return "–"
    scale = (100, 2) if "accuracy" in kind else (1, 4)
    ends = [signed(figures[end], *scale) for end in ("minus_sgd", "low", "high")]
    text = "{} [{}, {}]".format(*ends)
    return f"**{text}**" if figures.get("holm", 1) < LEVEL else text


def summary_row(results, task, arm):
    """The figures of an arm, or None where it was not measured."""
    rows = results["quality"]["summary"]
    own = (row for row in rows if (row["task"], row["arm"]) == (task, arm))
    return next(own, None)


def measured_tasks(results):
    """The tasks that SWA was measured on."""
    return [task for task in TASKS if summary_row(results, task, "swa")]


BESIDE_SGD = [  # the heads of what `beside_sgd` gives
    ("SGD, accuracy", "SGD 准确率"),
    ("SWA minus SGD, points [95%]", "SWA 与 SGD 之差，百分点 [95%]"),
    ("SGD, loss", "SGD 损失"),
    ("SWA minus SGD [95%]", "SWA 与 SGD 之差 [95%]"),
]


def beside_sgd(accuracy, loss, swa):
    """The cells of SGD's accuracy and loss, each with SWA's difference to it."""
    return [
        f"{accuracy:.2%}",
        interval(swa["accuracy"], "accuracy"),
        f"{loss:.4f}",
        interval(swa["loss"], "loss"),
    ]


def gain(results, is_chinese):
    """SWA beside SGD, a row a task."""
    heads = [("task", "任务"), *BESIDE_SGD]
    heads += [("chosen `swa_lr` / rate", "选定的 `swa_lr` / 学习率")]
    rows = []
    for task in measured_tasks(results):
        sgd, swa = (summary_row(results, task, arm) for arm in (arms.BASE, "swa"))
        cells = beside_sgd(sgd["accuracy"]["mean"], sgd["loss"]["mean"], swa)
        fraction = chosen(results, task, "swa")["fraction"]
        rows.append([TASKS[task][is_chinese], *cells, f"{fraction:g}"])
    return table(is_chinese, heads, rows)


def all_arms(results, is_chinese):
    """Every arm on every task."""
    heads = [
        ("task", "任务"),
        ("arm", "方法"),
        ("accuracy ± spread", "准确率 ± 标准差"),
        ("minus SGD, points [95%]", "与 SGD 之差，百分点 [95%]"),
        ("loss ± spread", "损失 ± 标准差"),
        ("minus SGD [95%]", "与 SGD 之差 [95%]"),
        ("calibration error", "校准误差"),
    ]
    rows = []
    for row in results["quality"]["summary"]:
        accuracy, loss, is_base = row["accuracy"], row["loss"], row["arm"] == arms.BASE
        rows.append(
            [
                TASKS[row["task"]][is_chinese] if is_base else "",
                ARMS[row["arm"]][is_chinese],
                f"{accuracy['mean']:.2%} ± {100 * accuracy['spread']:.2f}",
                "" if is_base else interval(accuracy, "accuracy"),
                f"{loss['mean']:.4f} ± {loss['spread']:.4f}",
                "" if is_base else interval(loss, "loss"),
                f"{row['calibration_error']['mean']:.4f}",
            ]
        )
    return table(is_chinese, heads, rows)


def left(results, is_chinese):
    """Accuracies with the statistics that `fit` leaves behind."""
    heads = [
        ("task", "任务"),
        ("SGD", "SGD"),
        ("SWA minus SGD, points [95%]", "SWA 与 SGD 之差，百分点 [95%]"),
        ("keras-swa minus SGD, points [95%]", "keras-swa 与 SGD 之差，百分点 [95%]"),
    ]
    rows = []
    for task in measured_tasks(results):
        sgd = summary_row(results, task, arms.BASE)
        cells = [TASKS[task][is_chinese], f"{sgd['own_accuracy']['mean']:.2%}"]
        for arm in ("swa", arms.PEER):
            row = summary_row(results, task, arm)
            cells.append(interval(row["own_accuracy"], "accuracy") if row else "–")
        rows.append(cells)
    return table(is_chinese, heads, rows)


def verdict(results, is_chinese):
    """For each arm, the tasks where it differs from SGD after Holm's correction."""
    heads = [("arm", "方法"), ("figure", "指标"), ("better on", "优于 SGD 的任务")]
    heads += [("worse on", "劣于 SGD 的任务"), ("undecided on", "未分高下的任务数")]
    rows = []
    for arm in COMPARED:
        for kind, names in KINDS.items():
            better, worse, undecided = sides(results, arm, kind)
            cells = [ARMS[arm][is_chinese], names[is_chinese]]
            for found in (better, worse):
                listed = "; ".join(TASKS[task][is_chinese] for task in found)
                cells.append(listed or "–")
            rows.append([*cells, str(len(undecided))])
    return table(is_chinese, heads, rows)


def sides(results, arm, kind):
    """(better, worse, undecided): the tasks of an arm by its verdict on a figure."""
    better, worse, undecided = [], [], []
    for task in TASKS:
        row = summary_row(results, task, arm)
        if row is None or row[kind]["low"] is None:
            continue
        gained = row[kind]["minus_sgd"] * (1 if kind == "accuracy" else -1)
        is_decided = row[kind]["holm"] < LEVEL
        side = undecided if not is_decided else better if gained > 0 else worse
        side.append(task)
    return better, worse, undecided


def budgets(results, is_chinese):
    """SWA beside SGD with more epochs."""
    heads = [("task", "任务"), ("epochs", "轮数"), *BESIDE_SGD]
    rows = []
    for task in tasks.LONGER:
        swa = summary_row(results, task, "swa")
        if swa is None:
            continue
        usual = summary_row(results, task, arms.BASE)
        longer = [r for r in results["quality"]["budgets"] if r["task"] == task]
        runs = [(1, usual["accuracy"]["mean"], usual["loss"]["mean"], swa)]
        runs += [(r["budget"], r["base_accuracy"], r["base_loss"], r) for r in longer]
        for budget, accuracy, loss, row in runs:
            cells = beside_sgd(accuracy, loss, row)
            rows.append([TASKS[task][is_chinese], f"{budget:g} x", *cells])
    return table(is_chinese, heads, rows)


def settings(results, is_chinese):
    """What each arm chose: rate, weight decay and swa_lr / rate."""
    shown = [arm for arm in ARMS if arm not in arms.SETTINGS_FROM]
    heads = [("task", "任务"), *(ARMS[arm] for arm in shown)]
    rows = []
    for task in measured_tasks(results):
        cells = [TASKS[task][is_chinese]]
        for arm in shown:
            own = chosen(results, task, arm)
            values = [
                f"{own[name]:g}{'*' if choice.is_at_an_end(name, own[name]) else ''}"
                for name in arms.ARMS[arm]
                if name in own
            ]
            cells.append(" / ".join(values) or "–")
        rows.append(cells)
    return table(is_chinese, heads, rows)


def fractions(results, is_chinese):
    """How often each fraction was chosen, a sentence."""
    own = [chosen(results, task, "swa")["fraction"] for task in measured_tasks(results)]
    parts = ("{value:g} on {times}", "{value:g} 倍 {times} 个")[is_chinese]
    listed = (", ", "，")[is_chinese].join(
        parts.format(value=value, times=own.count(value))
        for value in arms.SETTINGS["fraction"]
        if value in own
    )
    text = (
        "Of 1, 0.5, 0.2 and 0.1 times the compiled rate, the validation loss chose, on "
        "{tasks} small tasks: {listed}.",
        "在编译时学习率的 1、0.5、0.2、0.1 倍之中，{tasks} 个小任务按验证损失选定的是："
        "{listed}。",
    )[is_chinese]
    return text.format(tasks=len(own), listed=listed)


def chosen(results, task, arm):
    """The settings of an arm on a task, empty where it was not measured."""
    groups = results["quality"]["groups"]
    own = (g["settings"] for g in groups if (g["task"], g["arm"]) == (task, arm))
    return next(own, {})


def workloads(results, is_chinese):
    """Accuracy before and after the last epoch, by the number of batches."""
    heads = [("batches an epoch", "每轮的 batch 数"), ("0.99^b left", "残留 0.99^b")]
    heads += [("before the last epoch", "最后一轮之前"), ("after it, SWA", "之后，SWA")]
    heads += [("after it, keras-swa 0.1.7", "之后，keras-swa 0.1.7")]
    rows = []
    for row in results["quality"]["workloads"]:
        if row["package"] == "this":
            peer = workload_row(results, row["batches"], "keras-swa")
            rows.append(
                [
                    f"{row['batches']:,}",
                    f"{0.99 ** row['batches']:.1%}",
                    f"{mean(row['before']):.2%}",
                    f"{mean(row['after']):.2%}",
                    f"{mean(peer['after']):.2%}" if peer else "–",
                ]
            )
    return table(is_chinese, heads, rows)


def workload_row(results, batches, package):
    """The row of a number of batches and a package, or None."""
    rows = results["quality"]["workloads"]
    wanted = batches, package
    return next((r for r in rows if (r["batches"], r["package"]) == wanted), None)


def mean(values):
    return sum(values) / len(values)


def rise(results, is_chinese):
    """How the train loss rises under noise, a sentence."""
    curve = results["quality"]["curve"]
    sgd, swa = (mean([r[-1] for r in curve[arm]["rise"]]) for arm in ("sgd", "swa"))
    text = (
        "On {task}, under noise of half the length of each unit's weights, the train "
        "loss rises by {sgd:.3f} with SGD's weights and by {swa:.3f} with SWA's.",
        "在 {task} 上，噪声为各单元权重长度的一半时，训练损失在 SGD 的权重处上升 "
        "{sgd:.3f}，在 SWA 的权重处上升 {swa:.3f}。",
    )[is_chinese]
    return text.format(task=TASKS[curve["task"]][is_chinese], sgd=sgd, swa=swa)


def published(results, is_chinese):
    """The authors' figures for CIFAR-100."""
    heads = [
        ("network", "网络"),
        ("`swa_lr` / rate", "`swa_lr` / 学习率"),
        ("SGD", "SGD"),
        ("SWA, 1 budget", "SWA，1 倍"),
        ("SWA, 1.5 budgets", "SWA，1.5 倍"),
    ]
    rows = [
        [
            name,
            f"{swa_lr:g} / {rate:g}",
            *(f"{accuracy:.2f}" for accuracy in accuracies),
        ]
        for name, (swa_lr, rate, *accuracies) in PUBLISHED.items()
    ]
    return table(is_chinese, heads, rows)
