# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The tables of what SWA gains, from the part `quality` of `results.json`."""

from benchmarks import choice, common, training

ARMS = {
    "sgd": "SGD",
    "swa constant": "SWA, constant",
    "swa cyclic": "SWA, cyclic",
    "keras-swa constant": "keras-swa 0.1.7, constant",
    "swa three quarters": "SWA, constant, ¾ of the epochs 四分之三的轮数",
}
TASKS = {
    "mnist1d mlp": "MNIST-1D MLP",
    "noisy mnist5k mlp": "MNIST MLP, noisy labels",
    "mnist5k mlp": "MNIST MLP",
    "digits mlp": "digits MLP",
    "mnist1d convnet": "MNIST-1D ConvNet",
    "mnist5k convnet": "MNIST ConvNet",
    "digits convnet": "digits ConvNet",
}
FIRST = "mnist1d mlp"  # the task that more is measured on
PACKAGES = {
    "this": "SWA",
    "this, eager": "SWA, eager",
    "keras-swa": "keras-swa 0.1.7",
}


def interval(figures, scale=1, digits=4):
    """A paired difference to SGD with its interval, as text."""
    if figures["low"] is None:  # SGD's own, or of one seed
        return ""
    ends = [signed(figures[end], scale, digits) for end in ("minus_sgd", "low", "high")]
    return "{} [{}, {}]".format(*ends)


def points(figures):
    """The same in points of accuracy."""
    return interval(figures, 100, 2)


def signed(value, scale=100, digits=2):
    """A difference as text, in points of accuracy if nothing else is given."""
    return f"{scale * value:+.{digits}f}".replace("-", "−")


def quality(results):
    """Held-out figures, and their paired differences to SGD."""
    heads = ("", "", "accuracy ± spread 准确率 ± 标准差")
    heads += ("minus SGD [95%] 与 SGD 之差", "loss ± spread 损失 ± 标准差")
    heads += ("minus SGD [95%] 与 SGD 之差", "calibration error 校准误差")
    heads += ("minus SGD [95%] 与 SGD 之差",)
    heads += ("accuracy as `fit` leaves it `fit` 结束时的准确率",)
    rows, last = [], None
    for one in results["quality"]["summary"]:
        if one["arm"] in choice.FIRST_ARMS:
            continue
        cells = ["" if one["task"] == last else TASKS[one["task"]], ARMS[one["arm"]]]
        last = one["task"]
        found = one["accuracy"]
        cells.append(f"{100 * found['mean']:.2f}% ± {100 * found['spread']:.2f}")
        cells.append(points(found))
        found = one["loss"]
        cells.append(f"{found['mean']:.4f} ± {found['spread']:.4f}")
        cells.append(interval(found))
        found = one["calibration_error"]
        cells += [f"{found['mean']:.4f}", interval(found)]
        cells.append(f"{100 * one['own_accuracy']['mean']:.2f}%")
        rows.append(cells)
    table = common.markdown_table(heads, rows)
    left_out = ", ".join(TASKS[name] for name in sorted(results["quality"]["skipped"]))
    return table + (f"\n\nNot measured 未测量: {left_out}." if left_out else "")


def verdict(results):
    """For each arm, where its paired difference to SGD is beyond chance."""
    heads = ("", "of 指标", "better on 优于 SGD", "worse on 劣于 SGD")
    heads += ("no difference beyond chance on 无显著差别",)
    kinds = ("accuracy 准确率", "loss 损失", "calibration_error 校准误差")
    rows = []
    for arm in ("swa constant", "keras-swa constant"):
        for kind in kinds:
            found = sides(results, arm, kind.split()[0])
            if any(found.values()):
                names = (", ".join(TASKS[t] for t in tasks) for tasks in found.values())
                rows.append([ARMS[arm], kind.replace("_", " "), *names])
    return common.markdown_table(heads, rows)


def sides(results, arm, kind):
    """{"better", "worse", "neither": tasks} by the intervals of an arm."""
    sign = 1 if "accuracy" in kind else -1
    found = {"better": [], "worse": [], "neither": []}
    for one in results["quality"]["summary"]:
        if one["arm"] == arm and one[kind]["low"] is not None:
            low, high = sorted(sign * one[kind][end] for end in ("low", "high"))
            side = "better" if low > 0 else "worse" if high < 0 else "neither"
            found[side].append(one["task"])
    return found


def gains(results):
    """SWA's accuracy minus SGD's, measured in other ways too."""
    heads = ("", "as above 同上")
    heads += ("both with Keras's own statistics 均用 Keras 自己的统计量",)
    heads += ("on 10,000 further rows 另外一万行",)
    heads += ("both chosen by the loss 均按损失选定", "then the loss 此时的损失之差")
    rows = []
    for one in results["quality"]["summary"]:
        if one["arm"] == "swa constant":
            kinds = ("accuracy", "own_accuracy", "more_accuracy")
            cells = [points(one[kind]) if kind in one else "–" for kind in kinds]
            by_loss = one.get("by_loss")
            cells.append(points(by_loss["accuracy"]) if by_loss else "–")
            cells.append(interval(by_loss["loss"]) if by_loss else "–")
            rows.append([TASKS[one["task"]], *cells])
    return common.markdown_table(heads, rows)


def claims(results):
    """What else was tried on the first task, and the width of the optimum."""
    heads = ("", "rate / weight decay 学习率 / 权重衰减")
    heads += ("accuracy minus SGD's [95%] 准确率与 SGD 之差",)
    heads += ("loss minus SGD's [95%] 损失与 SGD 之差",)
    rows, chosen = [], results["quality"]["settings"][FIRST]
    for arm in ("swa constant", *choice.FIRST_ARMS):
        one = summary_row(results, FIRST, arm)
        if one:
            setting = pair(chosen.get(arm, {}).get("accuracy"))
            figures = points(one["accuracy"]), interval(one["loss"])
            rows.append([ARMS[arm], setting, *figures])
    rise = [summary_row(results, FIRST, arm)["rise"][-1] for arm in choice.OURS]
    told = (
        "Under noise of half the length of each unit's weights the train loss rises by "
        "{:.3f} with SGD's weights and by {:.3f} with SWA's, {:.2f} times as much. "
        "噪声为各单元权重长度的一半时，训练损失在 SGD 的权重处上升 {:.3f}，"
        "在 SWA 的权重处上升 {:.3f}，为前者的 {:.2f} 倍。"
    )
    figures = (*rise, rise[1] / rise[0])
    text = common.markdown_table(heads, rows), told.format(*figures, *figures)
    picture = "../test/benchmarks/pictures/width.png"
    return "\n\n".join([*text, f"![Rise of the train loss under noise]({picture})"])


def rates(results):
    """SWA's gain on the first task over the grid of rates."""
    heads = ("compiled rate 编译时的学习率", "SGD", "`swa_lr` = that rate, minus SGD")
    heads += ("`swa_lr='auto'`, minus SGD",)
    rows = {}
    for one in results["quality"].get("rates", ()):
        cells = rows.setdefault(one["rate"], [f"{one['rate']:g}"])
        is_sgd = one["arm"] == "sgd"
        cells.append(f"{100 * one['mean']:.2f}%" if is_sgd else points(one))
    return common.markdown_table(heads, rows.values())


def settings(results):
    """The rate and weight decay that each arm chose, by accuracy and by loss."""
    heads = ["rate / weight decay 学习率 / 权重衰减"]
    rows = []
    names = {"accuracy": "by accuracy 按准确率", "loss": "by loss 按损失"}
    pairs = [(arm, by) for arm in choice.OURS for by in names]
    pairs.append((training.PEER_ARM, "accuracy"))
    heads += [f"{ARMS[arm]}, {names[by]}" for arm, by in pairs]
    found = results["quality"]["settings"]
    for task in (task for task in TASKS if task in found):
        cells = [found[task].get(arm, {}).get(by) for arm, by in pairs]
        rows.append([TASKS[task], *map(pair, cells)])
    table = common.markdown_table(heads, rows)
    on_edge = [
        f"{TASKS[task]} ({ARMS[arm]})"
        for task in TASKS
        for arm in choice.ARMS
        if is_on_edge(results["quality"], task, arm)
    ]
    if on_edge:
        table += "\n\nStill on an edge of the grid 仍在网格边缘: " + "; ".join(on_edge)
    return table


def is_on_edge(measured, task, arm):
    """Whether what an arm chose by accuracy lies on an edge of the task's grid."""
    chosen = measured["settings"].get(task, {}).get(arm)
    if not chosen or task not in measured.get("grids", {}):
        return False
    grid = measured["grids"][task]
    values = zip(chosen["accuracy"], (grid["rate"], grid["decay"]))
    return any(value in (of[0], of[-1]) for value, of in values)


def pair(setting):
    """A rate and a weight decay as text; a dash where none was chosen."""
    return "{:g} / {:g}".format(*setting) if setting else "–"


def workloads(results):
    """Accuracy before and after SWA's last epoch on the synthetic workloads."""
    heads = ("workload 负载", "", "before SWA's last epoch SWA 最后一轮之前")
    heads += ("after training 训练结束后",)
    names = {"default": "default 默认", "reference": "reference 参考实现"}
    rows = [
        (
            f"{names[row['workload']]} ({row['epochs']})",
            PACKAGES[row["package"]],
            f"{row['before']['accuracy']:.2%}",
            f"{row['after']['accuracy']:.2%}",
        )
        for row in results["quality"]["workloads"]
    ]
    return common.markdown_table(heads, rows)


def summary_row(results, task, arm):
    """The figures of an arm, or None where it was not measured."""
    rows = results["quality"]["summary"]
    found = (row for row in rows if (row["task"], row["arm"]) == (task, arm))
    return next(found, None)


def workload_row(results, package):
    rows = results["quality"]["workloads"]
    wanted = "default", package
    return next(row for row in rows if (row["workload"], row["package"]) == wanted)
