# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The documents' tables, written from `results.json`: no figure by hand.

A table stands between `<!-- benchmark: NAME -->` and `<!-- /benchmark -->`, its heads
in both languages; NAME is followed by ` en` or ` zh` in the documents of one language.
"""

import re

from benchmarks import common, networks

RESULTS = common.ROOT / "test" / "benchmarks" / "results.json"
DOCUMENTS = {  # and the tables that each must have
    "README.md": {"figures en", "smallest en", "digest en"},
    "README.zh.md": {"figures zh", "smallest zh", "digest zh"},
    "docs/results.md": {
        *("machine", "overhead", "setup", "networks", "folds", "checkpoints"),
        *("throughput", "quality", "verdict", "gains", "claims", "rates", "settings"),
        *("first", "workloads"),
    },
}
BLOCK = re.compile(
    r"(<!-- benchmark: (\w+)(?: (en|zh))? -->\n).*?(<!-- /benchmark -->)", re.DOTALL
)
NOT_MEASURED = "*Not measured yet. 尚未测量。*"
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
CLAIMS = ("swa cyclic", "swa three quarters")  # these
DIGEST_ARMS = ("sgd", "swa constant", "keras-swa constant")
WIDTH = "![Rise of the train loss under noise]", "![噪声之下训练损失的上升]"
NETWORKS = "![Seconds of a first fit]", "![第一次 fit 的秒数]"
SECTIONS = {  # of the results, where a table has another name
    "figures": "quality",
    "digest": "quality",
    "setup": "overhead",
    "smallest": "throughput",
    "folds": "scaling",
    "checkpoints": "scaling",
    "verdict": "quality",
    "gains": "quality",
    "claims": "quality",
    "rates": "quality",
    "settings": "quality",
    "first": "networks",
    "workloads": "quality",
}
PACKAGES = {
    "this": "SWA",
    "this, eager": "SWA, eager",
    "keras-swa": "keras-swa 0.1.7",
}


def keep(content):
    """Puts the figures just measured into `results.json`, beside the others."""
    kept = common.read(RESULTS) if RESULTS.exists() else {}
    kept.update(content)
    common.write(RESULTS, kept)


def update():
    """Writes the documents' tables anew from `results.json`."""
    results = common.read(RESULTS)
    for name in DOCUMENTS:
        path = common.ROOT / name
        text = path.read_text(encoding="utf-8")
        common.write_text(path, rendered(text, results))


def rendered(text, results):
    """The text with every table written from the figures."""

    def block(match):
        begin, name, language, end = match.groups()
        if SECTIONS.get(name, name) not in results and name != "machine":
            return f"{begin}\n{NOT_MEASURED}\n\n{end}"
        told = [language == "zh"] if language else []
        return begin + "\n" + TABLES[name](results, *told) + "\n\n" + end

    return BLOCK.sub(block, text)


def table(heads, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def overhead(results):
    """Ratios of wall time, with SWA over without."""
    heads = ("", "batch 批大小", "model 模型")
    heads += ("wall time, median [95%] 墙钟时间，中位数", "best runs 最快者之比")
    heads += ("processor time 处理器时间",)
    heads += ("session calls per epoch 每轮会话调用",)
    fits = {
        "null arm": ": null arm 空对照",
        "training epochs": ": training epochs alone 仅训练各轮",
        "batch-norm epoch": ": batch-norm epoch alone 仅批归一化的一轮",
    }
    rows = []
    for row in results["overhead"]["rows"]:
        wall, processor, calls = row["wall"], row["processor"], row["session_calls"]
        rows.append(
            (
                PACKAGES[row["package"]] + fits.get(row["fit"], ""),
                f"{row['batch_size']}",
                row["model"],
                f"{wall['median']:.3f} [{wall['low']:.3f}, {wall['high']:.3f}]",
                f"{wall['best']:.3f}",
                "" if processor is None else f"{processor['median']:.3f}",
                "" if calls is None else "{} → {} ({})".format(*calls),
            )
        )
    return table(heads, rows)


def setup(results):
    """The one-time set-up, a line."""
    seconds = [
        row["setup_median_seconds"]
        for row in results["overhead"]["rows"]
        if row["package"] == "this" and row["setup_median_seconds"] is not None
    ]
    least, most = min(seconds), max(seconds)
    return (
        f"One-time set-up for each model: {least:.2f} to {most:.2f} seconds. "
        f"每个模型一次的准备时间：{least:.2f} 至 {most:.2f} 秒。"
    )


def network_rows(results):
    """Cost on networks that people train, a table."""
    heads = ("network 网络", "arm 方法", "first `fit` 第一次 (s)", "over plain 之比")
    heads += ("second `fit` 第二次 (s)", "over plain 之比", "peak 内存峰值 (MB)")
    heads += ("operations in the graph 图中运算", "forms compiled 编译形式")
    measured = results["networks"]["networks"]
    names = {**PACKAGES, "plain": "plain 不带", "plain again": "null arm 空对照"}
    rows = [
        [network, names[arm], *cells]
        for name in measured
        for network, arm, *cells in networks.rows_of(name, measured[name])
    ]
    return table(heads, rows)


def throughput(results):
    """Samples per second of the default workload."""
    names = {
        "bare step": "train step alone, one resident batch 仅训练步，固定一批",
        "one-hot fit": "`fit`, one-hot labels, shuffled 打乱",
        "trainer": "the trainer, with SWA 训练脚本，含 SWA",
        "2 processes": "two trainers, half the cores each 两个进程，各用一半的核",
        "2 ranks": "two Horovod ranks 两个 Horovod 进程",
    }
    heads = ("", "samples/s 样本/秒", "over the train step 与训练步之比")
    heads += ("over the one-hot `fit` 与 one-hot `fit` 之比",)
    rows = [
        (
            names[row["name"]],
            f"{row['samples_per_second']:,.0f}",
            f"{row['over bare step']:.2f}",
            f"{row['over one-hot fit']:.2f}",
        )
        for row in results["throughput"]["rows"]
    ]
    return table(heads, rows)


def smallest(results, is_chinese):
    """The last lines of the smallest run."""
    return "\n".join("    " + line for line in results["throughput"]["smallest"])


def folds(results):
    """Seconds of a fold by the number of weights."""
    heads = ("weights 权重数", "in tensors 张量数", "sample 取样一次")
    heads += ("numpy's pass numpy 一遍", "memory bound 内存带宽下限")
    heads += ("sample over numpy 与 numpy 之比",)
    rows = [
        (
            f"{one['weights']:,}",
            str(one["tensors"]),
            f"{1e3 * one['fold']:.3g} ms",
            f"{1e3 * one['numpy']:.3g} ms",
            f"{1e3 * one['bound']:.3g} ms",
            f"{one['ratio']:.2f}",
        )
        for one in results["scaling"]["folds"]
    ]
    return table(heads, rows)


def checkpoints(results):
    """Size and seconds of a checkpoint by the number of weights."""
    heads = ("weights 权重数", "checkpoint 检查点", "written in 写入", "read in 读取")
    rows = [
        (
            f"{one['weights']:,}",
            f"{one['bytes'] / 1e6:.1f} MB",
            f"{1e3 * one['write']:.3g} ms",
            f"{1e3 * one['read']:.3g} ms",
        )
        for one in results["scaling"]["checkpoints"]
    ]
    return table(heads, rows)


def interval(figures, scale=1, digits=4):
    """A paired difference to SGD with its interval, as text."""
    if figures["minus_sgd"] is None:
        return ""
    ends = [scale * figures[end] for end in ("minus_sgd", "low", "high")]
    return "{:+.{d}f} [{:+.{d}f}, {:+.{d}f}]".format(*ends, d=digits).replace("-", "−")


def points(figures):
    """The same in points of accuracy."""
    return interval(figures, 100, 2)


def quality(results):
    """Held-out figures, and their paired differences to SGD."""
    heads = ("", "", "accuracy ± spread 准确率 ± 标准差")
    heads += ("minus SGD [95%] 与 SGD 之差", "loss ± spread 损失 ± 标准差")
    heads += ("minus SGD [95%] 与 SGD 之差", "calibration error 校准误差")
    heads += ("minus SGD [95%] 与 SGD 之差",)
    heads += ("accuracy as `fit` leaves it `fit` 结束时的准确率",)
    rows, last = [], None
    for one in results["quality"]["summary"]:
        if one["arm"] in CLAIMS:
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
    return table(heads, rows)


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
    return table(heads, rows)


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
    return table(heads, rows)


def claims(results):
    """What else was tried on the first task, and the width of the optimum."""
    heads = ("", "accuracy minus SGD's [95%] 准确率与 SGD 之差")
    heads += ("loss minus SGD's [95%] 损失与 SGD 之差",)
    rows = []
    for arm in ("swa constant", *CLAIMS):
        one = _summary_row(results, FIRST, arm)
        if one:
            rows.append([ARMS[arm], points(one["accuracy"]), interval(one["loss"])])
    rise = [_summary_row(results, FIRST, arm)["rise"][-1] for arm in DIGEST_ARMS[:2]]
    told = (
        "Under noise of half the length of each unit's weights the train loss rises by "
        "{:.3f} with SGD's weights and by {:.3f} with SWA's, {:.2f} times as much. "
        "噪声为各单元权重长度的一半时，训练损失在 SGD 的权重处上升 {:.3f}，"
        "在 SWA 的权重处上升 {:.3f}，为前者的 {:.2f} 倍。"
    )
    figures = (*rise, rise[1] / rise[0])
    return table(heads, rows) + "\n\n" + told.format(*figures, *figures)


def rates(results):
    """SWA's gain on the first task over the grid of rates."""
    heads = ("compiled rate 编译时的学习率", "SGD", "`swa_lr` = that rate, minus SGD")
    heads += ("`swa_lr='auto'`, minus SGD",)
    rows = {}
    for one in results["quality"].get("rates", ()):
        cells = rows.setdefault(one["rate"], [f"{one['rate']:g}"])
        is_sgd = one["arm"] == "sgd"
        cells.append(f"{100 * one['mean']:.2f}%" if is_sgd else points(one))
    return table(heads, rows.values())


def settings(results):
    """The rate and weight decay that each arm chose, by accuracy and by loss."""
    heads = ["rate / weight decay 学习率 / 权重衰减"]
    rows = []
    names = {"accuracy": "by accuracy 按准确率", "loss": "by loss 按损失"}
    pairs = [(arm, by) for arm in DIGEST_ARMS[:2] for by in names]
    heads += [f"{ARMS[arm]}, {names[by]}" for arm, by in pairs]
    found = results["quality"]["settings"]
    for task in (task for task in TASKS if task in found):
        cells = [found[task][arm].get(by) for arm, by in pairs]
        texts = ("{:g} / {:g}".format(*cell) if cell else "–" for cell in cells)
        rows.append([TASKS[task], *texts])
    return table(heads, rows)


def first(results):
    """The networks' picture."""
    return NETWORKS[0] + "(../test/benchmarks/pictures/networks.png)"


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
    return table(heads, rows)


def figures(results, is_chinese):
    """The three figures that decide whether this is for a reader."""
    cost = _overhead_row(results, "this", 32)["wall"]
    gain = _summary_row(results, FIRST, "swa constant")["accuracy"]
    loss = _workload_row(results, "keras-swa")
    found = sides(results, "swa constant", "accuracy")
    lines = (
        "- **Cost**: `fit` takes {cost} times as long as without (default model, batch "
        "32; 95% interval {low} to {high}).",
        "- **Gain**: {gain} points of test accuracy on {task}, where the network "
        "overfits ({seeds} seeds); beyond chance better on {better}, worse on {worse} "
        "of {tasks} small tasks.",
        "- **What others get wrong**: keras-swa gives the averaged weights batch-norm "
        "statistics that are not theirs: accuracy {before} before its last epoch, "
        "{after} after.",
    )
    if is_chinese:
        lines = (
            "- **开销**：`fit` 的时间是不带回调时的 {cost} 倍（默认模型，批大小 32；"
            "95% 区间 {low} 至 {high}）。",
            "- **增益**：在网络过拟合的 {task} 上，测试准确率变化 {gain} 个百分点"
            "（{seeds} 个种子）；"
            "{tasks} 个小任务中显著提高 {better} 个，显著降低 {worse} 个。",
            "- **其他实现的错误**：keras-swa 的平均权重配的是不属于它的批归一化统计量："
            "最后一轮之前准确率 {before}，之后 {after}。",
        )
    return "\n".join(lines).format(
        cost=f"{cost['median']:.2f}",
        low=f"{cost['low']:.2f}",
        high=f"{cost['high']:.2f}",
        gain=points(gain),
        task=TASKS[FIRST],
        seeds=results["quality"]["seeds"],
        better=len(found["better"]),
        worse=len(found["worse"]),
        tasks=sum(map(len, found.values())),
        before=f"{loss['before']['accuracy']:.1%}",
        after=f"{loss['after']['accuracy']:.1%}",
    )


def digest(results, is_chinese):
    """The results in one small table: SWA beside keras-swa."""
    heads = ("", "SWA", "keras-swa 0.1.7")
    names = (
        ("accuracy minus SGD's {}, {}", "准确率与 SGD 的 {} 之差，{}"),
        ("time of `fit` over plain, batch {} / {}", "`fit` 时间之比，批大小 {} / {}"),
        ("first `fit` over plain, {}", "第一次 `fit` 时间之比，{}"),
    )
    accuracy, time, network = (name[is_chinese] for name in names)
    packages, rows = ("this", "keras-swa"), []
    for task, title in TASKS.items():
        sgd, own, peer = (_summary_row(results, task, arm) for arm in DIGEST_ARMS)
        if own:
            label = accuracy.format(f"{100 * sgd['accuracy']['mean']:.2f}%", title)
            other = points(peer["own_accuracy"]) if peer else "–"
            rows.append([label, points(own["accuracy"]), other])
    sizes = 32, 16384
    found = [[_overhead_row(results, p, size) for size in sizes] for p in packages]
    medians = ([f"{row['wall']['median']:.2f}" for row in own] for own in found)
    rows.append([time.format(*sizes), *map(" / ".join, medians)])
    measured = results.get("networks", {"networks": {}})["networks"]
    for name, arms in measured.items():
        cells = (
            f"{networks.ratio(arms, arm, 'first'):.2f}" if arm in arms else "–"
            for arm in packages
        )
        rows.append([network.format(name), *cells])
    pictures = f"{WIDTH[is_chinese]}(test/benchmarks/pictures/width.png)"
    if measured:
        pictures += f" {NETWORKS[is_chinese]}(test/benchmarks/pictures/networks.png)"
    return f"{table(heads, rows)}\n\n{pictures}"


def _overhead_row(results, package, batch_size):
    return next(
        row
        for row in results["overhead"]["rows"]
        if (row["package"], row["batch_size"]) == (package, batch_size)
        and row["model"] == "SGD, batch norm"
        and row["fit"] not in ("null arm", "training epochs", "batch-norm epoch")
    )


def _summary_row(results, task, arm):
    """The figures of an arm, or None where it was not measured."""
    rows = results["quality"]["summary"]
    found = (row for row in rows if (row["task"], row["arm"]) == (task, arm))
    return next(found, None)


def _workload_row(results, package):
    rows = results["quality"]["workloads"]
    wanted = "default", package
    return next(row for row in rows if (row["workload"], row["package"]) == wanted)


def machine(results):
    """Versions and machine class, a line for each distinct one."""
    lines = []
    for name in sorted(results):
        line = _machine_line(results[name]["environment"])
        if line not in lines:
            lines.append(line)
    partly = [name for name in sorted(results) if not results[name].get("is_whole")]
    if partly:
        told = "**A first look, with fewer repetitions 重复次数较少**: {}."
        lines.append(told.format(", ".join(partly)))
    return "\n".join(lines)


def _machine_line(environment):
    versions, machine = environment["versions"], environment["machine"]
    names = {"python": "Python", "tensorflow": "TensorFlow", "numpy": "numpy"}
    names.update(sklearn="scikit-learn", mlxtend="mlxtend", mnist1d="mnist1d")
    told = ", ".join(
        f"{names[key]} {versions[key]}" for key in names if key in versions
    )
    where = f"{machine['system']} {machine['architecture']}"
    model = machine["processor"] or machine["architecture"]
    return f"{machine['cores']} cores of {model}, {where}; {told}."


TABLES = {
    "figures": figures,
    "digest": digest,
    "overhead": overhead,
    "setup": setup,
    "networks": network_rows,
    "throughput": throughput,
    "smallest": smallest,
    "folds": folds,
    "checkpoints": checkpoints,
    "quality": quality,
    "verdict": verdict,
    "gains": gains,
    "claims": claims,
    "rates": rates,
    "settings": settings,
    "first": first,
    "workloads": workloads,
    "machine": machine,
}
