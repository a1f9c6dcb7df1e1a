# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The documents' tables, written from `results.json`: no figure by hand.

A table stands between `<!-- benchmark: NAME en -->` and `<!-- /benchmark -->`, or the
same with `zh` in a Chinese page.
"""

import re

from benchmarks import arms, common, gains, networks

RESULTS = common.ROOT / "test" / "benchmarks" / "results.json"
IN_RESULTS = (
    *("machine", "gain", "verdict", "all_arms", "left", "budgets", "settings"),
    *("workloads", "rise", "published", "overhead", "networks", "folds"),
    *("checkpoints", "throughput", "durations"),
)
DOCUMENTS = {  # and the tables that each must have
    "README": ("figures", "shown", "published", "fractions"),
    "comparison": ("digest", "times"),
    "results": IN_RESULTS,
}
PAGES = {  # of the documents: English, Chinese
    "README": ("README.md", "README.zh.md"),
    "comparison": ("docs/comparison.md", "docs/zh/comparison.md"),
    "results": ("docs/results.md", "docs/zh/results.md"),
}
LANGUAGES = ("en", "zh")
BLOCK = re.compile(
    r"(<!-- benchmark: (\w+) (en|zh) -->\n).*?(<!-- /benchmark -->)", re.DOTALL
)
NOT_MEASURED = ("*Not measured yet.*", "*尚未测量。*")
OF_QUALITY = (  # the tables that are made from the section `quality` of the results
    *("figures", "digest", "gain", "verdict", "all_arms", "left", "budgets"),
    *("settings", "workloads", "rise", "fractions"),
)
SECTIONS = {  # that the other tables are made from, where the name differs
    "shown": "throughput",
    "times": "networks",
    "folds": "scaling",
    "checkpoints": "scaling",
}
WITHOUT_FIGURES = ("machine", "durations", "published")
PACKAGES = {
    "this": ("SWA", "SWA"),
    "this, eager": ("SWA, eager", "SWA，eager"),
    "keras-swa": gains.ARMS["keras-swa"],
    "plain": ("without", "不带回调"),
    "plain again": ("null arm", "空对照"),
}


def keep(content):
    """Puts the figures just measured into `results.json`, beside the others."""
    kept = common.read(RESULTS) if RESULTS.exists() else {}
    kept.update(content)
    common.write(RESULTS, kept)


def update():
    """Writes the documents' tables anew from `results.json`."""
    results = common.read(RESULTS)
    for pages in PAGES.values():
        for page in pages:
            path = common.ROOT / page
            text = path.read_text(encoding="utf-8")
            common.write_text(path, rendered(text, results))


def rendered(text, results):
    """The text with every table written from the figures."""

    def block(match):
        begin, name, language, end = match.groups()
        is_chinese = language == "zh"
        section = "quality" if name in OF_QUALITY else SECTIONS.get(name, name)
        if section not in results and name not in WITHOUT_FIGURES:
            return f"{begin}{NOT_MEASURED[is_chinese]}\n{end}"
        return f"{begin}{TABLES[name](results, is_chinese)}\n{end}"

    return BLOCK.sub(block, text)


# What it costs


def overhead(results, is_chinese):
    """Ratios of wall time, with a callback over without."""
    heads = [("", ""), ("batch", "batch"), ("model", "模型")]
    heads += [("wall time, median [95%]", "墙钟时间，中位数 [95%]")]
    heads += [("session calls an epoch", "每轮会话调用")]
    fits = {
        "null arm": (": null arm", "：空对照"),
        "batch-norm epoch": (": batch-norm epoch", "：统计 BN 的一轮"),
    }
    rows = []
    for row in results["overhead"]["rows"]:
        wall, calls = row["wall"], row["session_calls"]
        fit = fits.get(row["fit"], ("", ""))[is_chinese]
        rows.append(
            [
                PACKAGES[row["package"]][is_chinese] + fit,
                f"{row['batch_size']}",
                row["model"],
                f"{wall['median']:.3f} [{wall['low']:.3f}, {wall['high']:.3f}]",
                "–" if calls is None else "{} → {} ({})".format(*calls),
            ]
        )
    return gains.table(is_chinese, heads, rows)


def network_rows(results, is_chinese):
    """Cost on networks that people train."""
    heads = [("network", "网络"), ("arm", "方法"), ("first `fit`, s", "首次 `fit`，秒")]
    heads += [("second `fit`, s", "第二次 `fit`，秒"), ("over plain", "与不带之比")]
    heads += [("peak, MB", "内存峰值，MB"), ("operations in the graph", "图中运算数")]
    heads += [("forms compiled", "编译的形式数")]
    measured = results["networks"]["networks"]
    rows = []
    for name, of_arm in measured.items():
        for network, arm, first, _, second, *rest in networks.rows_of(name, of_arm):
            cells = [network, PACKAGES[arm][is_chinese], first, second, *rest]
            rows.append(cells)
    for network, arm in results["networks"].get("late", []):
        over = f"> {networks.PATIENCE}"  # the process was ended then
        rows.append([network, PACKAGES[arm][is_chinese], over, *["–"] * 5])
    return gains.table(is_chinese, heads, rows)


def throughput(results, is_chinese):
    """Samples per second of the default workload."""
    names = {
        "bare step": ("train step alone, one resident batch", "仅训练步，固定一批"),
        "fit": (
            "`fit` with the trainer's rows and SWA",
            "`fit`，训练脚本的样本，带 SWA",
        ),
        "plain fit": ("the same without SWA", "同上，不带 SWA"),
        "resident fit": ("the same on the resident batch", "同上，只用固定的一批"),
        "one-hot fit": ("`fit`, one-hot labels, shuffled", "`fit`，one-hot 标签，打乱"),
        "trainer": ("the trainer, with SWA", "训练脚本，带 SWA"),
        "2 processes": (
            "two trainers, half the cores each",
            "两个训练脚本，各用一半的核",
        ),
        "2 ranks": ("two Horovod ranks", "两个 Horovod 进程"),
    }
    heads = [("", ""), ("samples/s", "样本/秒")]
    heads += [("over the train step", "与训练步之比")]
    rows = [
        [
            names[row["name"]][is_chinese],
            f"{row['samples_per_second']:,.0f}",
            f"{row['over bare step']:.2f}",
        ]
        for row in results["throughput"]["rows"]
    ]
    return gains.table(is_chinese, heads, rows)


def shown(results, is_chinese):
    """What the run on the front page prints."""
    return "\n".join("    " + line for line in results["throughput"]["shown"])


def folds(results, is_chinese):
    """Seconds of a sample by the number of weights."""
    heads = [("weights", "权重数"), ("in tensors", "张量数"), ("sample", "采样一次")]
    heads += [("numpy's pass", "numpy 一遍"), ("memory bound", "内存带宽下限")]
    heads += [("sample over numpy", "采样与 numpy 之比")]
    rows = [
        [
            f"{fold['weights']:,}",
            str(fold["tensors"]),
            *(f"{1e3 * fold[kind]:.3g} ms" for kind in ("fold", "numpy", "bound")),
            f"{fold['ratio']:.2f}",
        ]
        for fold in results["scaling"]["folds"]
    ]
    return gains.table(is_chinese, heads, rows)


def checkpoints(results, is_chinese):
    """Size and seconds of a checkpoint by the number of weights."""
    heads = [("weights", "权重数"), ("checkpoint", "检查点")]
    heads += [("written in", "写入"), ("read in", "读取")]
    rows = [
        [
            f"{checkpoint['weights']:,}",
            f"{checkpoint['bytes'] / 1e6:.1f} MB",
            f"{1e3 * checkpoint['write']:.3g} ms",
            f"{1e3 * checkpoint['read']:.3g} ms",
        ]
        for checkpoint in results["scaling"]["checkpoints"]
    ]
    return gains.table(is_chinese, heads, rows)


def times(results, is_chinese):
    """What the callbacks cost: by epoch, and the seconds that a first fit adds."""
    heads = [("", ""), PACKAGES["this"], PACKAGES["keras-swa"]]
    of_epoch = ("a training epoch over plain, batch {}", "训练一轮的时间之比，batch {}")
    of_first = ("first `fit` of {}, s more", "{} 的首次 `fit` 增加的秒数")
    packages, rows = ("this", "keras-swa"), []
    for size in (32, 512):
        medians = [
            _overhead_wall(results, package, size, "SGD, batch norm")["median"]
            for package in packages
        ]
        cells = [f"{median:.2f}" for median in medians]
        rows.append([of_epoch[is_chinese].format(size), *cells])
    for name in results["networks"]["networks"]:
        cells = [
            _more_seconds(results, name, package, is_chinese) for package in packages
        ]
        rows.append([of_first[is_chinese].format(name), *cells])
    return gains.table(is_chinese, heads, rows)


def _more_seconds(results, network, arm, is_chinese):
    """How much longer a first fit takes with a callback, as text."""
    measured = results["networks"]["networks"][network]
    if arm not in measured:
        ended = ("ended after {} s", "{} 秒后终止")[is_chinese]
        return ended.format(networks.PATIENCE)
    return gains.signed(networks.more_seconds(measured, arm), 1, 1)


def _overhead_wall(results, package, batch_size, model, fit="training epochs"):
    """The ratio of wall time of a row of `overhead`: {"median", "low", "high"}."""
    wanted = package, batch_size, model, fit
    names = "package", "batch_size", "model", "fit"
    rows = results["overhead"]["rows"]
    row = next(row for row in rows if tuple(row[n] for n in names) == wanted)
    return row["wall"]


# The front page and the comparison


FIGURES = (
    """\
- **Cost**: a training epoch takes {cost:.0f} % longer, 95% interval {low:.0f} to
  {high:.0f} (MLP of 108 units without batch normalization, batch 32; null arm {null}
  %). The first `fit` of MobileNetV2 takes {first} s longer, once.
- **Gain** over SGD with a decayed rate: {tasks} small tasks, {seeds} seeds, settings
  chosen by validation loss. The loss is lower on {loss_better}, higher on {loss_worse}
  and undecided on {loss_rest}. The accuracy is higher on {better}{gained}, lower on
  {worse}{lost} and undecided on {rest}.
- **Batch normalization**: the statistics are exact. Those of keras-swa are a moving
  average: after b batches 0.99^b of the initial value remains. With 8 batches an epoch
  its last epoch takes the accuracy from {before:.1%} to {after:.1%}. With 2,048 it ends
  with {late:.1%}, ours with {ours:.1%}.""",
    """\
- **开销**：训练一轮的时间增加 {cost:.0f} %，95% 区间 {low:.0f} 至 {high:.0f}
  （108 个单元的 MLP，不含 BN，batch 32；空对照 {null} %）。
  MobileNetV2 的首次 `fit` 多用 {first} 秒，仅此一次。
- **效果**（对照：学习率衰减的 SGD）：{tasks} 个小任务，{seeds} 个种子，
  设置按验证损失选定。损失在 {loss_better} 个任务上更低，在 {loss_worse} 个上更高，
  {loss_rest} 个未分高下。
  准确率在 {better} 个任务上更高{gained}，在 {worse} 个上更低{lost}，{rest} 个未分高下。
- **BN**：本项目的统计量是精确的。keras-swa 的统计量是滑动平均，b 个 batch 之后
  仍残留 0.99^b 的初值：
  每轮 8 个 batch 时，最后一轮使准确率从 {before:.1%} 降到 {after:.1%}；
  每轮 2,048 个时为 {late:.1%}，本项目为 {ours:.1%}。""",
)


def figures(results, is_chinese):
    """The three figures that decide whether this is for a reader, with their bounds."""
    with_swa, null_arm = (
        _overhead_wall(results, "this", 32, "SGD", fit)
        for fit in ("training epochs", "null arm")
    )
    cost, low, high = (with_swa[name] for name in ("median", "low", "high"))
    by_accuracy, by_loss = (
        gains.sides(results, "swa", kind) for kind in ("accuracy", "loss")
    )
    first = _more_seconds(results, "MobileNetV2", "this", is_chinese).strip("+")
    few, many = (gains.workload_row(results, b, "keras-swa") for b in (8, 2048))
    # a line for each item, because figures of any length must fit
    text = FIGURES[is_chinese].replace("\n  ", "" if is_chinese else " ")
    return text.format(
        cost=100 * (cost - 1),
        low=100 * (low - 1),
        high=100 * (high - 1),
        null=gains.signed(null_arm["median"] - 1, digits=0),
        first=first,
        tasks=sum(map(len, by_accuracy)),
        seeds=results["quality"]["seeds"],
        better=len(by_accuracy[0]),
        worse=len(by_accuracy[1]),
        rest=len(by_accuracy[2]),
        gained=_differences(results, by_accuracy[0], is_chinese),
        lost=_differences(results, by_accuracy[1], is_chinese),
        loss_better=len(by_loss[0]),
        loss_worse=len(by_loss[1]),
        loss_rest=len(by_loss[2]),
        before=gains.mean(few["before"]),
        after=gains.mean(few["after"]),
        late=gains.mean(many["after"]),
        ours=gains.mean(gains.workload_row(results, 2048, "this")["after"]),
    )


def _differences(results, tasks, is_chinese):
    """SWA's differences of accuracy on tasks, as text in brackets."""
    if not tasks:
        return ""
    rows = [gains.summary_row(results, task, "swa")["accuracy"] for task in tasks]
    listed = ", ".join(gains.signed(row["minus_sgd"]) for row in rows)
    return (f" ({listed} points)", f"（{listed} 个百分点）")[is_chinese]


def digest(results, is_chinese):
    """Accuracy of SWA and keras-swa minus SGD's: exact statistics, and as left."""
    heads = [("task", "任务"), ("SWA minus SGD", "SWA 与 SGD 之差")]
    heads += [("keras-swa minus SGD, both with exact statistics",)]
    heads[-1] += ("keras-swa 与 SGD 之差，均用精确统计量",)
    heads += [("keras-swa minus SGD, both as `fit` leaves them",)]
    heads[-1] += ("keras-swa 与 SGD 之差，均为 `fit` 结束时的模型",)
    rows = []
    for task in gains.measured_tasks(results):
        swa, peer = (gains.summary_row(results, task, a) for a in ("swa", arms.PEER))
        cells = [gains.interval(swa["accuracy"], "accuracy")]
        for kind in ("accuracy", "own_accuracy"):
            cells.append(gains.interval(peer[kind], "accuracy") if peer else "–")
        rows.append([gains.TASKS[task][is_chinese], *cells])
    return gains.table(is_chinese, heads, rows)


def durations(results, is_chinese):
    """How long each part took, a sentence."""
    minutes = {name: max(1, round(results[name]["seconds"] / 60)) for name in results}
    parts = ("`{}` {} min", "`{}` {} 分钟")[is_chinese]
    listed = (", ", "，")[is_chinese].join(
        parts.format(name, minutes[name]) for name in sorted(minutes)
    )
    text = (
        "Last time the parts took: {}; {} minutes in all.",
        "上次各部分用时：{}；共 {} 分钟。",
    )[is_chinese]
    return text.format(listed, sum(minutes.values()))


def machine(results, is_chinese):
    """Versions and machine class, a line for each distinct one."""
    lines = []
    for name in sorted(results):
        line = _machine_line(results[name]["environment"], is_chinese)
        if line not in lines:
            lines.append(line)
    partly = [name for name in sorted(results) if not results[name].get("is_whole")]
    if partly:
        first_look = (
            "**With fewer repetitions**: {}.",
            "**重复次数较少**：{}。",
        )[is_chinese]
        lines.append(first_look.format(", ".join(partly)))
    return "\n".join(lines)


def _machine_line(environment, is_chinese):
    versions, machine_class = environment["versions"], environment["machine"]
    names = {"python": "Python", "tensorflow": "TensorFlow", "numpy": "numpy"}
    names.update(sklearn="scikit-learn", mlxtend="mlxtend", mnist1d="mnist1d")
    listed = [f"{names[key]} {versions[key]}" for key in names if key in versions]
    model = machine_class["processor"] or machine_class["architecture"]
    where = f"{machine_class['system']} {machine_class['architecture']}"
    text = ("{} cores of {}, {}; {}.", "{} 核，{}，{}；{}。")[is_chinese]
    separator = (", ", "、")[is_chinese]
    return text.format(machine_class["cores"], model, where, separator.join(listed))


TABLES = {
    "figures": figures,
    "digest": digest,
    "times": times,
    "overhead": overhead,
    "networks": network_rows,
    "throughput": throughput,
    "shown": shown,
    "folds": folds,
    "checkpoints": checkpoints,
    "gain": gains.gain,
    "verdict": gains.verdict,
    "all_arms": gains.all_arms,
    "left": gains.left,
    "budgets": gains.budgets,
    "settings": gains.settings,
    "fractions": gains.fractions,
    "workloads": gains.workloads,
    "rise": gains.rise,
    "published": gains.published,
    "machine": machine,
    "durations": durations,
}
