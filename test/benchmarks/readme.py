# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The documents' tables, written from `results.json`: no figure by hand.

A table stands between `<!-- benchmark: NAME -->` and `<!-- /benchmark -->`, its heads
in both languages; NAME is followed by ` en` or ` zh` in the documents of one language.
"""

import re

from benchmarks import choice, common, gains, networks

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
    return NETWORKS[0] + "(../test/benchmarks/pictures/networks.png)"


def figures(results, is_chinese):
    """The three figures that decide whether this is for a reader."""
    cost = _overhead_row(results, "this", 32)["wall"]
    loss = gains.workload_row(results, "keras-swa")
    found = gains.sides(results, "swa constant", "accuracy")
    rows = (gains.summary_row(results, task, "swa constant") for task in gains.TASKS)
    differences = [row["accuracy"]["minus_sgd"] for row in rows if row]
    lines = (
        "- **Cost**: `fit` takes {cost} times as long as without (default model, batch "
        "32; 95% interval {low} to {high}).",
        "- **Gain**: from {least} to {most} points of test accuracy ({seeds} seeds); "
        "beyond chance better on {better}, worse on {worse} of {tasks} small tasks.",
        "- **What others get wrong**: keras-swa gives the averaged weights batch-norm "
        "statistics that are not theirs: accuracy {before} before its last epoch, "
        "{after} after.",
    )
    if is_chinese:
        lines = (
            "- **开销**：`fit` 的时间是不带回调时的 {cost} 倍（默认模型，批大小 32；"
            "95% 区间 {low} 至 {high}）。",
            "- **增益**：测试准确率变化 {least} 至 {most} 个百分点（{seeds} 个种子）；"
            "{tasks} 个小任务中显著提高 {better} 个，显著降低 {worse} 个。",
            "- **其他实现的错误**：keras-swa 的平均权重配的是不属于它的批归一化统计量："
            "最后一轮之前准确率 {before}，之后 {after}。",
        )
    return "\n".join(lines).format(
        cost=f"{cost['median']:.2f}",
        low=f"{cost['low']:.2f}",
        high=f"{cost['high']:.2f}",
        least=gains.signed(min(differences)),
        most=gains.signed(max(differences)),
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
    for task, title in gains.TASKS.items():
        sgd, own, peer = (gains.summary_row(results, task, arm) for arm in choice.ARMS)
        if own:
            label = accuracy.format(f"{100 * sgd['accuracy']['mean']:.2f}%", title)
            other = gains.points(peer["own_accuracy"]) if peer else "–"
            rows.append([label, gains.points(own["accuracy"]), other])
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
    pictures = f"{gains.WIDTH[is_chinese]}(test/benchmarks/pictures/width.png)"
    if measured:
        pictures += f" {NETWORKS[is_chinese]}(test/benchmarks/pictures/networks.png)"
    return f"{common.markdown_table(heads, rows)}\n\n{pictures}"


def _overhead_row(results, package, batch_size):
    return next(
        row
        for row in results["overhead"]["rows"]
        if (row["package"], row["batch_size"]) == (package, batch_size)
        and row["model"] == "SGD, batch norm"
        and row["fit"] not in ("null arm", "training epochs", "batch-norm epoch")
    )


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
