# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The documents' tables, written from `results.json`: no figure by hand.

A table stands between `<!-- benchmark: NAME -->` and `<!-- /benchmark -->`, its heads
in both languages; NAME is followed by ` en` or ` zh` in the documents of one language.
"""

import re
import statistics

from benchmarks import choice, common, gains, networks

RESULTS = common.ROOT / "test" / "benchmarks" / "results.json"
DOCUMENTS = {  # and the tables that each must have
    "README.md": {"figures en", "shown en"},
    "README.zh.md": {"figures zh", "shown zh"},
    "docs/comparison.md": {"digest en", "times en"},
    "docs/zh/comparison.md": {"digest zh", "times zh"},
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
BATCHES = 131072 // 16384  # of the default workload's epoch
SECTIONS = {  # of the results, where a table has another name
    "figures": "quality",
    "digest": "quality",
    "setup": "overhead",
    "shown": "throughput",
    "times": "networks",
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
                gains.PACKAGES[row["package"]] + fits.get(row["fit"], ""),
                f"{row['batch_size']}",
                row["model"],
                f"{wall['median']:.3f} [{wall['low']:.3f}, {wall['high']:.3f}]",
                f"{wall['best']:.3f}",
                "" if processor is None else f"{processor['median']:.3f}",
                "" if calls is None else "{} → {} ({})".format(*calls),
            )
        )
    return common.markdown_table(heads, rows)


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
    names = {**gains.PACKAGES, "plain": "plain 不带", "plain again": "null arm 空对照"}
    rows = [
        [network, names[arm], *cells]
        for name in measured
        for network, arm, *cells in networks.rows_of(name, measured[name])
    ]
    both = f"> {networks.PATIENCE}"  # fits together, of a process that was ended
    late = results["networks"].get("late", [])
    rows += [[network, names[arm], both, *["–"] * 6] for network, arm in late]
    return common.markdown_table(heads, rows)


def throughput(results):
    """Samples per second of the default workload."""
    names = {
        "bare step": "train step alone, one resident batch 仅训练步，固定一批",
        "fit": "`fit` with the trainer's rows and SWA 训练脚本的样本与 SWA",
        "plain fit": "the same without SWA 同上，不带 SWA",
        "resident fit": "the same on that one batch 同上，只用那一批",
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
    return common.markdown_table(heads, rows)


def shown(results, is_chinese):
    """What the run on the front page prints."""
    return "\n".join("    " + line for line in results["throughput"]["shown"])


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
    return common.markdown_table(heads, rows)


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
    return common.markdown_table(heads, rows)


def first(results):
    """The networks' picture."""
    return "![Seconds of a first fit](../test/benchmarks/pictures/networks.png)"


def figures(results, is_chinese):
    """The three figures that decide whether this is for a reader, with their bounds."""
    with_swa, without = (
        _overhead_median(results, "this", 32, "SGD", fit)
        for fit in ("with / without", "null arm")
    )
    workload = gains.workload_row(results, "keras-swa")
    by_accuracy, by_loss = (
        gains.sides(results, "swa constant", kind) for kind in ("accuracy", "loss")
    )
    lines = (
        "- **Cost**: a training epoch takes about {cost} % longer (default model "
        "without batch normalization, batch 32). The first `fit` of MobileNetV2 takes "
        "{first} s longer, once.",
        "- **Gain**: {tasks} small tasks, {seeds} seeds, `swa_lr` = the compiled rate. "
        "Accuracy rises on {better} ({gained} points), falls on {worse} ({lost}), and "
        "differs by no more than chance on {rest}. The loss falls on {loss_better} and "
        "rises on {loss_worse}.",
        "- **Batch normalization**: keras-swa's statistics are a moving average; after "
        "b batches 0.99^b of their start is left. With {batches} batches an epoch "
        "({left:.0%} left) its last epoch takes the accuracy from {before:.1%} to "
        "{after:.1%}; with 500 only {late:.1%} would be left. Here they are exact for "
        "any number.",
    )
    if is_chinese:
        lines = (
            "- **开销**：训练一轮的时间增加约 {cost} %（默认模型，不含 BN，batch 32）。"
            "MobileNetV2 的首次 `fit` 多用 {first} 秒，仅此一次。",
            "- **效果**：{tasks} 个小任务，{seeds} 个种子，`swa_lr` 等于编译时的"
            "学习率。准确率在 {better} 个任务上提升（{gained} 个百分点），在 {worse} 个"
            "任务上下降（{lost}），其余 {rest} 个无显著差异；损失在 {loss_better} 个"
            "任务上降低，在 {loss_worse} 个任务上升高。",
            "- **BN**：keras-swa 的 BN 统计量是滑动平均，b 个 batch 之后仍残留 0.99^b "
            "的初值。每轮 {batches} 个 batch 时（残留 {left:.0%}），最后一轮使准确率从 "
            "{before:.1%} 降到 {after:.1%}；每轮 500 个时只残留 {late:.1%}。"
            "本项目的统计量与 batch 数无关，始终精确。",
        )
    return "\n".join(lines).format(
        cost=round(100 * (with_swa / without - 1)),
        first=_more_seconds(results, "MobileNetV2", "this", is_chinese).strip("+"),
        tasks=sum(map(len, by_accuracy.values())),
        seeds=results["quality"]["seeds"],
        better=len(by_accuracy["better"]),
        worse=len(by_accuracy["worse"]),
        rest=len(by_accuracy["neither"]),
        gained=_differences(results, by_accuracy["better"]),
        lost=_differences(results, by_accuracy["worse"]),
        loss_better=len(by_loss["better"]),
        loss_worse=len(by_loss["worse"]),
        batches=BATCHES,
        left=0.99**BATCHES,
        late=0.99**500,
        before=workload["before"]["accuracy"],
        after=workload["after"]["accuracy"],
    )


def _differences(results, tasks):
    """SWA's gains of accuracy on tasks, as text."""
    rows = [gains.summary_row(results, task, "swa constant") for task in tasks]
    return ", ".join(gains.signed(row["accuracy"]["minus_sgd"]) for row in rows)


def digest(results, is_chinese):
    """Accuracy of SWA and keras-swa, each beside the SGD that it is compared with."""
    heads = ("task", "SGD", "SWA, minus SGD", "keras-swa, minus SGD")
    heads += ("SGD, Keras's statistics", "keras-swa, its statistics, minus that")
    if is_chinese:
        heads = ("任务", "SGD", "SWA 与 SGD 之差", "keras-swa 与 SGD 之差")
        heads += ("SGD，Keras 的统计量", "keras-swa，自身的统计量，与左栏之差")
    rows = []
    for task, title in gains.TASKS.items():
        sgd, own, peer = (gains.summary_row(results, task, arm) for arm in choice.ARMS)
        if own:
            rows.append(
                (
                    title,
                    f"{sgd['accuracy']['mean']:.2%}",
                    gains.points(own["accuracy"]),
                    gains.points(peer["accuracy"]) if peer else "–",
                    f"{sgd['own_accuracy']['mean']:.2%}",
                    gains.points(peer["own_accuracy"]) if peer else "–",
                )
            )
    return common.markdown_table(heads, rows)


def times(results, is_chinese):
    """What the callbacks cost: the ratio of later fits, the seconds of a first."""
    heads = ("", "SWA", "keras-swa 0.1.7")
    names = "time of a later `fit` over plain, batch {}", "first `fit` of {}, s more"
    if is_chinese:
        names = "之后的 `fit` 时间之比，batch {}", "{} 的首次 `fit` 增加的秒数"
    packages, rows = ("this", "keras-swa"), []
    for size in (32, 512):
        medians = [
            _overhead_median(results, package, size, "SGD, batch norm")
            for package in packages
        ]
        rows.append([names[0].format(size), *(f"{ratio:.2f}" for ratio in medians)])
    for name in results["networks"]["networks"]:
        seconds = [
            _more_seconds(results, name, package, is_chinese) for package in packages
        ]
        rows.append([names[1].format(name), *seconds])
    return common.markdown_table(heads, rows)


def _more_seconds(results, network, arm, is_chinese):
    """How much longer a first fit takes with a callback, as text."""
    measured = results["networks"]["networks"][network]
    if arm not in measured:
        ended = "ended after {} s", "{} 秒后终止"
        return ended[is_chinese].format(networks.PATIENCE)
    more = _first_seconds(measured[arm]) - _first_seconds(measured["plain"])
    return f"{more:+.1f}".replace("-", "−")


def _first_seconds(figures):
    return statistics.median(one["first"] for one in figures)


def _overhead_median(results, package, batch_size, model, fit="with / without"):
    """The median ratio of wall time of a row of `overhead`."""
    wanted = package, batch_size, model, fit
    names = "package", "batch_size", "model", "fit"
    rows = results["overhead"]["rows"]
    row = next(row for row in rows if tuple(row[n] for n in names) == wanted)
    return row["wall"]["median"]


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
    "times": times,
    "overhead": overhead,
    "setup": setup,
    "networks": network_rows,
    "throughput": throughput,
    "shown": shown,
    "folds": folds,
    "checkpoints": checkpoints,
    "quality": gains.quality,
    "verdict": gains.verdict,
    "gains": gains.gains,
    "claims": gains.claims,
    "rates": gains.rates,
    "settings": gains.settings,
    "first": first,
    "workloads": gains.workloads,
    "machine": machine,
}
