# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The README's tables, written from `results.json`: no figure by hand.

A table stands between `<!-- benchmark: NAME en -->` and `<!-- /benchmark -->`; `zh`
for the Chinese part.
"""

import re

from benchmarks import common

RESULTS = common.ROOT / "test" / "benchmarks" / "results.json"
README = common.ROOT / "README.md"
BLOCK = re.compile(
    r"(<!-- benchmark: (\w+) (en|zh) -->\n).*?(<!-- /benchmark -->)", re.DOTALL
)
ARMS = {
    "sgd": "SGD",
    "swa constant": "SWA, constant",
    "swa cyclic": "SWA, cyclic",
    "keras-swa constant": "keras-swa 0.1.7, constant",
}
TASKS = {
    "digits mlp": "digits MLP",
    "digits convnet": "digits ConvNet",
    "mnist5k mlp": "MNIST MLP",
    "mnist5k convnet": "MNIST ConvNet",
}
SECTIONS = {  # of the results, where a table has another name
    "setup": "overhead",
    "smallest": "throughput",
    "folds": "scaling",
    "checkpoints": "scaling",
    "verdict": "quality",
    "workloads": "quality",
}
PACKAGES = {
    "this": ("SWA", "SWA"),
    "this, eager": ("SWA, eager", "SWA，eager 模式"),
    "keras-swa": ("keras-swa 0.1.7", "keras-swa 0.1.7"),
}


def keep(content):
    """Puts the figures just measured into `results.json`, beside the others."""
    kept = common.read(RESULTS) if RESULTS.exists() else {}
    kept.update(content)
    common.write(RESULTS, kept)


def update():
    """Writes the README's tables anew from `results.json`."""
    text = README.read_text(encoding="utf-8")
    common.write_text(README, rendered(text, common.read(RESULTS)))


def rendered(text, results):
    """The text with every table written from the figures."""

    def block(match):
        begin, name, language, end = match.groups()
        if SECTIONS.get(name, name) not in results and name != "machine":
            return match[0]  # not measured yet
        return begin + "\n" + TABLES[name](results, language == "zh") + "\n\n" + end

    return BLOCK.sub(block, text)


def table(heads, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def overhead(results, is_chinese):
    """Ratios of wall time, with SWA over without."""
    heads = ("", "batch", "model", "wall time, median [95%]", "best runs")
    heads += ("processor time", "session calls per epoch")
    if is_chinese:
        heads = ("", "批大小", "模型", "墙钟时间，中位数 [95%]", "最快者之比")
        heads += ("处理器时间", "每轮会话调用")
    fits = {"null arm": ("null arm", "空对照")}
    fits["training epochs"] = ("training epochs alone", "仅训练各轮")
    fits["batch-norm epoch"] = ("batch-norm epoch alone", "仅批归一化的一轮")
    rows = []
    for row in results["overhead"]["rows"]:
        wall, processor = row["wall"], row["processor"]
        name = PACKAGES[row["package"]][is_chinese]
        if row["fit"] in fits:
            name += (": ", "：")[is_chinese] + fits[row["fit"]][is_chinese]
        calls = row["session_calls"]
        rows.append(
            (
                name,
                f"{row['batch_size']}",
                row["model"],
                f"{wall['median']:.3f} [{wall['low']:.3f}, {wall['high']:.3f}]",
                f"{wall['best']:.3f}",
                "" if processor is None else f"{processor['median']:.3f}",
                "" if calls is None else "{} → {} ({})".format(*calls),
            )
        )
    return table(heads, rows)


def setup(results, is_chinese):
    """The one-time set-up, a line."""
    seconds = [
        row["setup_median_seconds"]
        for row in results["overhead"]["rows"]
        if row["package"] == "this" and row["setup_median_seconds"] is not None
    ]
    if is_chinese:
        return f"每个模型一次的准备时间：{min(seconds):.2f} 至 {max(seconds):.2f} 秒。"
    return (
        f"One-time set-up for each model: {min(seconds):.2f} to {max(seconds):.2f} "
        f"seconds."
    )


def throughput(results, is_chinese):
    """Samples per second of the default workload."""
    names = {
        "bare step": ("train step alone, one resident batch", "仅训练步，固定一批"),
        "one-hot fit": ("`fit`, one-hot labels, shuffled", "`fit`，one-hot 标签，打乱"),
        "trainer": ("the trainer, with SWA", "训练脚本，含 SWA"),
        "2 processes": ("two trainers, half the cores each", "两个进程，各用一半的核"),
        "2 ranks": ("two Horovod ranks", "两个 Horovod 进程"),
    }
    heads = ("", "samples/s", "over the train step", "over the one-hot `fit`")
    if is_chinese:
        heads = ("", "样本/秒", "与训练步之比", "与 one-hot `fit` 之比")
    rows = [
        (
            names[row["name"]][is_chinese],
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


def folds(results, is_chinese):
    """Seconds of a fold by the number of weights."""
    heads = (
        "weights",
        "in tensors",
        "fold",
        "numpy's pass",
        "memory bound",
        "fold over numpy",
    )
    if is_chinese:
        heads = (
            "权重数",
            "张量数",
            "取样一次",
            "numpy 一遍",
            "内存带宽下限",
            "与 numpy 之比",
        )
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


def checkpoints(results, is_chinese):
    """Size and seconds of a checkpoint by the number of weights."""
    heads = ("weights", "checkpoint", "written in", "read in")
    if is_chinese:
        heads = ("权重数", "检查点", "写入", "读取")
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


def quality(results, is_chinese):
    """Held-out accuracy and loss, and their paired differences to SGD."""
    heads = ("", "", "accuracy ± spread", "minus SGD [95%]", "loss ± spread")
    heads += ("minus SGD [95%]", "calibration error")
    if is_chinese:
        heads = ("", "", "准确率 ± 标准差", "与 SGD 之差 [95%]", "损失 ± 标准差")
        heads += ("与 SGD 之差 [95%]", "校准误差")
    rows, last = [], None
    for one in results["quality"]["summary"]:
        cells = ["" if one["task"] == last else TASKS[one["task"]], ARMS[one["arm"]]]
        last = one["task"]
        for kind, scale, unit in (("accuracy", 100, "%"), ("loss", 1, "")):
            figures = one[kind]
            mean, spread = scale * figures["mean"], scale * figures["spread"]
            digits = 2 if scale == 100 else 4
            cells.append(f"{mean:.{digits}f}{unit} ± {spread:.{digits}f}")
            if figures["low"] is None:
                cells.append("")
                continue
            ends = [scale * figures[end] for end in ("minus_sgd", "low", "high")]
            cells.append(
                "{:+.{d}f} [{:+.{d}f}, {:+.{d}f}]".format(*ends, d=digits).replace(
                    "-", "−"
                )
            )
        cells.append(f"{one['calibration_error']['mean']:.4f}")
        rows.append(cells)
    return table(heads, rows)


def verdict(results, is_chinese):
    """For each arm, where its paired difference to SGD is beyond chance."""
    words = {
        "accuracy": ("accuracy", "准确率"),
        "loss": ("loss", "损失"),
        "better": ("better on", "优于 SGD："),
        "worse": ("worse on", "劣于 SGD："),
        "neither": ("no difference beyond chance on", "无显著差别："),
    }
    lines = []
    for arm in list(ARMS)[1:]:
        told = []
        for kind, sign in (("accuracy", 1), ("loss", -1)):
            found = {"better": [], "worse": [], "neither": []}
            for one in results["quality"]["summary"]:
                if one["arm"] != arm or one[kind]["low"] is None:
                    continue
                low, high = sorted(sign * one[kind][end] for end in ("low", "high"))
                side = "better" if low > 0 else "worse" if high < 0 else "neither"
                found[side].append(TASKS[one["task"]])
            parts = [
                words[side][is_chinese] + (" ", "")[is_chinese] + ", ".join(tasks)
                for side, tasks in found.items()
                if tasks
            ]
            if parts:
                begin = words[kind][is_chinese] + (": ", "")[is_chinese]
                told.append(begin + ("; ", "；")[is_chinese].join(parts))
        if told:
            lines.append(f"- {ARMS[arm]}{(': ', '：')[is_chinese]}" + ". ".join(told))
            lines[-1] += (".", "。")[is_chinese]
    return "\n".join(lines)


def workloads(results, is_chinese):
    """Accuracy before and after SWA's last epoch on the synthetic workloads."""
    heads = ("workload", "", "before SWA's last epoch", "after training")
    names = {"default": "default", "reference": "reference"}
    if is_chinese:
        heads = ("负载", "", "SWA 最后一轮之前", "训练结束后")
        names = {"default": "默认", "reference": "参考实现"}
    rows = [
        (
            f"{names[row['workload']]} ({row['epochs']})",
            PACKAGES[row["package"]][is_chinese],
            f"{row['before']['accuracy']:.2%}",
            f"{row['after']['accuracy']:.2%}",
        )
        for row in results["quality"]["workloads"]
    ]
    return table(heads, rows)


def machine(results, is_chinese):
    """Versions and machine class, a line for each distinct one."""
    lines = []
    for name in sorted(results):
        line = _machine_line(results[name]["environment"], is_chinese)
        if line not in lines:
            lines.append(line)
    partly = [name for name in sorted(results) if not results[name].get("is_whole")]
    if partly:
        told = (
            "**A first look, with fewer repetitions**: {}.",
            "**重复次数较少**：{}。",
        )
        lines.append(told[is_chinese].format(", ".join(partly)))
    return "\n".join(lines)


def _machine_line(environment, is_chinese):
    versions, machine = environment["versions"], environment["machine"]
    names = {"python": "Python", "tensorflow": "TensorFlow", "numpy": "numpy"}
    names.update(sklearn="scikit-learn", mlxtend="mlxtend")
    told = ", ".join(
        f"{names[key]} {versions[key]}" for key in names if key in versions
    )
    where = f"{machine['system']} {machine['architecture']}"
    model = machine["processor"] or machine["architecture"]
    if is_chinese:
        return f"{machine['cores']} 核，{model}，{where}；{told}。"
    return f"{machine['cores']} cores of {model}, {where}; {told}."


TABLES = {
    "overhead": overhead,
    "setup": setup,
    "throughput": throughput,
    "smallest": smallest,
    "folds": folds,
    "checkpoints": checkpoints,
    "quality": quality,
    "verdict": verdict,
    "workloads": workloads,
    "machine": machine,
}
