# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the documents say holds: commands run, links exist, tables are the program's."""

import ast
import concurrent.futures
import importlib.util
import inspect
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from benchmarks import throughput
from conftest import IS_EAGER, ROOT
from support import one_rank

from swa.training.remedies import REMEDIES

pytestmark = pytest.mark.skipif(IS_EAGER, reason="says nothing about eager mode")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
}
ENGLISH = "\n".join(t for n, t in sorted(PAGES.items()) if "zh" not in n)
CHINESE = "\n".join(t for n, t in sorted(PAGES.items()) if "zh" in n)
TEXT = "\n".join(PAGES.values())
PAIRS = [
    (f"docs/{name}", f"docs/zh/{name}")
    for name in (
        "callback.md",
        "trainer.md",
        "ascend.md",
        "comparison.md",
        "results.md",
    )
]
WITH_MESSAGES = [page for pair in PAIRS[:3] for page in pair]
READMES = ["README.md", "README.zh.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TINY = "--device=cpu --train_epochs=4 --num_samples=512 --batch_size=64 --swa_freq=2"
# commands that no test here runs, and where what they do is tested instead
ELSEWHERE = {
    "bash test/run_tests.sh": "runs this test",
    "bash test/run_tests.sh test/test_stops.py -k batch_norm": "checked below",
    "bash test/check_npu.sh": "needs an NPU; test_check_npu.py has an imitation",
    "bash test/train_full_1p.sh --help": "compared with the table of flags below",
    "SWA_TEST_NPU=all bash test/run_tests.sh test/test_npu_matrix.py": "a minute",
    "pip install .": "test_packaging.py",
    '"$PYTHON" test/benchmark.py all --update-readme': "an hour; test_benchmark.py",
    '"$PYTHON" test/benchmark_pictures.py': "needs the benchmark extra",
    "export ASCEND_DEVICE_ID=0": "the run after it has it",
}
ELSEWHERE_PARTS = {
    "-m pip install -c test/constraints.txt": "a network; test_packaging.py: its pins",
    "docker run": "needs a host with NPUs and the vendor's image",
    "RANK_TABLE_FILE": "needs NPUs; test_ranks_hccl.py has an imitation",
    "_8p.sh": "builds Horovod at its first use, or NPUs; test_distributed.py",
}


def blocks(part, language):
    """The fenced blocks of a language, without what follows in the shell's `\\`."""
    found = [code for name, code in BLOCK.findall(part) if name == language]
    return [code.replace("\\\n", "") for code in found]


def commands(part):
    """The distinct command lines of a part, in order, those within the text last."""
    lines = [s.strip() for code in blocks(part, "bash") for s in code.splitlines()]
    lines += re.findall(r"`((?:[A-Z_]+=\S+ )*bash test/[^`]+)`", part)
    return list(dict.fromkeys(s for s in lines if s and not s.startswith("#")))


def reason_not_to_run(command):
    """Where a command is tested instead, or None."""
    for words, reason in ELSEWHERE_PARTS.items():
        if words in command:
            return reason
    return ELSEWHERE.get(command)


def rows_after(part, mark):
    """The cells of the Markdown table that follows `mark`, or begins with it."""
    lines = part[part.index(mark) :].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|---")) + 1
    cells = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.strip("|").split("|")])
    return cells


def headings(page):
    """(level, text) of each heading."""
    found = re.findall(r"^(#+) (.+)$", BLOCK.sub("", page), re.MULTILINE)
    return [(len(marks), text) for marks, text in found]


def slugs(page):
    """The anchors of the headings."""
    heads = [re.sub(r"[^\w\- ]", "", text.lower()) for _, text in headings(page)]
    return {head.replace(" ", "-") for head in heads}


def tables(page):
    """The rows of each table, as lists of cells."""
    found = re.findall(r"(?:^\|.*\n)+", BLOCK.sub("", page), re.MULTILINE)
    return [
        [line.strip("|").split("|") for line in table.splitlines()] for table in found
    ]


# Commands


def run(command, folder):
    """Runs a command as if in the project's root, its outputs in `folder`."""
    folder.mkdir()
    for name in ("test", "swa", "train-tf.keras-npu.py", "requirements.txt"):
        (folder / name).symlink_to(ROOT / name)
    if "mine.npz" in command:
        exec(next(c for c in blocks(ENGLISH, "python") if "savez" in c), {}, {})
        os.replace("mine.npz", str(folder / "mine.npz"))
    environ = dict(os.environ, PYTHON=sys.executable, ASCEND_DEVICE_ID="0")
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=str(folder),
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=300,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What every command that can be run here did, two at a time."""
    folder = tmp_path_factory.mktemp("readme")
    chosen = [c for c in commands(ENGLISH) if not reason_not_to_run(c)]

    def one(index):
        flags = "--device=cpu" if chosen[index] == throughput.SHOWN else TINY
        return run(f"{chosen[index]} {flags}", folder / str(index))

    before = os.getcwd()
    os.chdir(str(folder))  # for the file that the example writes
    try:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return dict(zip(chosen, pool.map(one, range(len(chosen)))))
    finally:
        os.chdir(before)


def test_every_command_runs(ran):
    assert len(ran) >= 6
    for command, (status, out, err) in ran.items():
        assert status == 0, f"{command}\n{out}\n{err}"
        assert "SWA weights: test loss" in out or "complete" in out, command


@pytest.fixture(scope="module")
def shown_run(ran):
    """(what the run on the front page printed, its output folder)."""
    _, told, _ = ran[throughput.SHOWN]
    return told, pathlib.Path(re.search(r"^report: (.*)/report.json$", told, re.M)[1])


@pytest.mark.parametrize("page", PAIRS[1])
def test_the_tables_of_outputs_are_those_of_a_run(shown_run, page):
    head = "| 文件 | 内容 |" if "zh" in page else "| file | content |"
    rows = rows_after(PAGES[page], head)
    _, folder = shown_run
    report = json.loads((folder / "report.json").read_text())
    (row,) = [row for row in rows if row[0] == "`report.json`"]
    named = set(re.findall(r"`(\w+)`", row[1])) - {"sgd", "swa", "loss", "accuracy"}
    assert named == set(report)
    known = [
        re.sub(r"\W.*", "", n) for row in rows for n in re.findall("`(.+?)`", row[0])
    ]
    names = {name.name for name in folder.iterdir() if name.name[0] != "."}
    assert {"ckpt", "report.json", "train_0.log"} < names
    others = [n for n in names if re.sub(r"\W.*", "", n) not in known + ["train_0"]]
    assert all(name.startswith("SWA_ID0252") for name in others)  # ${CaseName}


@pytest.mark.parametrize("page", READMES)
def test_the_run_on_the_front_page_prints_the_lines_shown(shown_run, page):
    shown = re.split("<!-- .*benchmark.* -->", PAGES[page])[1]
    shown = re.findall("^    (.*)$", shown, re.MULTILINE)
    if not shown:
        pytest.skip("nothing measured yet")

    def shape(line):
        return re.sub(r"[-+]?[0-9]\.[0-9]+", "#", line)

    told = [shape(line) for line in shown_run[0].splitlines()]
    first = told.index(shape(shown[0]))
    assert len(shown) == 4
    assert told[first : first + 4] == [shape(line) for line in shown]


def test_the_run_on_the_front_page_gains_by_both_figures(shown_run):
    report = json.loads((shown_run[1] / "report.json").read_text())
    sgd, swa = report["test"]["sgd"], report["test"]["swa"]
    assert swa["loss"] < sgd["loss"] - 0.005
    assert swa["accuracy"] > sgd["accuracy"]


@pytest.mark.parametrize("page", READMES)
def test_a_reader_meets_the_gain_after_the_two_commands(page):
    first, *others = blocks(PAGES[page], "bash")
    assert first.splitlines() == [
        "bash test/train_full_1p.sh --data_path=./",
        "bash test/run_tests.sh",
    ]
    assert others[0].strip() == throughput.SHOWN


def test_a_command_is_run_or_has_a_reason_not_to():
    assert set(ELSEWHERE) <= set(commands(ENGLISH)), "a reason without its command"
    for command in commands(ENGLISH):
        is_known = re.match(r'(bash test/|source test/env.sh && "\$PYTHON")', command)
        assert reason_not_to_run(command) or is_known, command


def test_the_chinese_commands_are_among_the_english():
    english = commands(ENGLISH) + ["bash test/train_performance_1p.sh"]
    assert not [c for c in commands(CHINESE) if c not in english]


def test_the_one_test_that_is_shown_exists():
    names = re.findall(r"run_tests.sh (\S+) -k (\w+)", ENGLISH)
    assert names
    for path, word in names:
        assert re.search(rf"def test_\w*{word}", (ROOT / path).read_text()), path


# Python blocks


def without_comments(code):
    return ast.dump(ast.parse(code))


def test_the_chinese_examples_are_the_english_ones():
    english = {without_comments(code) for code in blocks(ENGLISH, "python")}
    chinese = {without_comments(code) for code in blocks(CHINESE, "python")}
    assert english == chinese


@pytest.mark.parametrize("english, chinese", PAIRS)
def test_a_pair_has_the_same_headings_tables_and_blocks(english, chinese):
    english, chinese = PAGES[english], PAGES[chinese]
    levels = [[level for level, _ in headings(page)] for page in (english, chinese)]
    assert levels[0] == levels[1] and len(levels[0]) > 5
    names = [
        [
            [sorted(re.findall("`(.+?)`", row[0])) + [len(row)] for row in table]
            for table in tables(page)
        ]
        for page in (english, chinese)
    ]
    assert names[0] == names[1]
    assert blocks(english, "bash") == blocks(chinese, "bash")
    codes = [blocks(page, "python") for page in (english, chinese)]
    assert [*map(without_comments, codes[0])] == [*map(without_comments, codes[1])]


CONTINUES = {  # the first line of a block that does not stand alone
    "# continues the block above": "# 接上一段代码",
    "# continues the first block": "# 接第一段代码",
}


def test_the_chinese_blocks_continue_what_the_english_do():
    for english, chinese in [READMES, *PAIRS]:
        pairs = zip(*(blocks(PAGES[page], "python") for page in (english, chinese)))
        for code, twin in pairs:
            lines = [part.split("\n")[0] for part in (code, twin)]
            assert CONTINUES.get(lines[0], lines[1]) == lines[1]
            assert (lines[0] in CONTINUES) == (lines[1] in CONTINUES.values())


@pytest.fixture
def in_a_users_folder(shown_run, tmp_path, monkeypatch, tf_kit):
    """The output folder of a run, and packages that are no part of ours."""
    shutil.copytree(str(shown_run[1] / "ckpt"), str(tmp_path / "ckpt"))
    monkeypatch.chdir(tmp_path)
    if importlib.util.find_spec("pandas") is None:
        frame = types.SimpleNamespace(DataFrame=dict)
        monkeypatch.setitem(sys.modules, "pandas", frame)
    one_rank.install(monkeypatch, tf_kit.keras)


def run_blocks(page):
    """Runs a page's blocks; a list of the names that each leaves behind."""
    import tensorflow as tf

    spaces = []
    for code in blocks(PAGES[page], "python"):
        line = code.split("\n")[0]
        if line == "# continues the block above":
            names = dict(spaces[-1])
        elif line == "# continues the first block":
            names = dict(spaces[0])
        else:
            tf.keras.backend.clear_session()
            np.random.seed(0)
            tf.compat.v1.set_random_seed(0)
            names = {}
        exec(compile(code, page, "exec"), names)
        spaces.append(names)
    return spaces


@pytest.mark.parametrize(
    "page", sorted(n for n in PAGES if "zh" not in n and blocks(PAGES[n], "python"))
)
def test_every_block_runs_as_it_stands(page, in_a_users_folder, capsys):
    if page == "docs/callback.md":
        return check_the_callbacks_blocks(run_blocks(page), capsys.readouterr().out)
    if page == "README.md":
        return check_the_front_pages_blocks(run_blocks(page), capsys.readouterr().out)
    run_blocks(page)


def printed(told, name):
    """(loss, accuracy) of a line that the front page's block prints."""
    found = re.search(rf"^{name} \[(\S+), (\S+)\]$", told, re.MULTILINE)
    return float(found[1]), float(found[2])


def check_the_front_pages_blocks(spaces, told):
    swa = spaces[0]["swa"]
    assert printed(told, "average")[0] < printed(told, "last weights")[0]
    assert swa.n_averaged == 10 and swa.batch_norm_epoch == 40
    assert swa.settings.swa_lr == 0.05  # no rate that was measured as useless
    names = sorted(path.name for path in pathlib.Path().glob("average-*.h5"))
    assert names == [f"average-{epoch}.h5" for epoch in range(30, 40)]


def check_the_callbacks_blocks(spaces, told):
    assert blocks(PAGES["README.md"], "python")[0] in blocks(
        PAGES["docs/callback.md"], "python"
    )
    (rates,) = [names["rates"] for names in spaces if "rates" in names]
    assert len(rates["lr"]) == 40 * 40  # one for each batch
    for names in spaces:
        assert names["swa"].n_averaged in (10, 20) or "sum_over_ranks" in names
    raw, averaged = re.search(r"^(0\.\d+|1\.\d+) (0\.\d+|1\.\d+)$", told, re.M).groups()
    assert float(averaged) < float(raw)
    assert sum("held_out" in names for names in spaces) == 1


def test_the_ways_to_load_a_result_agree(shown_run, tmp_path, monkeypatch):
    import tensorflow as tf

    shutil.copytree(str(shown_run[1] / "ckpt"), str(tmp_path / "ckpt"))
    monkeypatch.chdir(tmp_path)
    tf.keras.backend.clear_session()
    section = PAGES["docs/trainer.md"].split("## Loading the result")[1]
    section = section.split("\n## ")[0]
    x = np.random.RandomState(0).normal(size=(9, 6)).astype(np.float32)
    names, predicted = {}, []
    for code in blocks(section, "python"):
        exec(code, names)
        predicted.append(names.get("whole", names["model"]).predict(x))
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(names["frozen"], name="")
        with tf.compat.v1.Session(graph=graph) as session:
            feeds = {"dense_input:0": x}
            predicted.append(session.run("dense_1/Softmax:0", feeds))
    tf.keras.backend.clear_session()
    assert len(predicted) == 5
    for one in predicted:
        np.testing.assert_allclose(one, predicted[0], atol=1e-6)
    assert (tmp_path / "saved_model" / "saved_model.pb").exists()
    assert (tmp_path / "swa.pb").exists()


# Tables


def flag_table(page):
    """Flag -> default, as the page says."""
    language = "zh" if "zh" in page else "en"
    rows = rows_after(PAGES[page], f"<!-- flags {language} -->")
    return {row[1].strip("`-"): row[2] for row in rows}


@pytest.fixture(scope="module")
def script_help():
    command = [sys.executable, str(ROOT / "train-tf.keras-npu.py"), "--help"]
    return subprocess.check_output(command, timeout=120).decode()


@pytest.mark.parametrize("page", PAIRS[1])
def test_the_flag_table_is_the_scripts_help(page, script_help):
    from swa.training.flags import Config

    table, defaults = flag_table(page), Config()._asdict()
    del defaults["typed"]
    assert set(table) == set(re.findall(r"^  --(\w+)", script_help, re.MULTILINE))
    assert set(table) == set(defaults)
    for name, default in defaults.items():
        shown = "" if default in ("", None) else str(default)
        assert table[name] == shown, name
        line = re.search(rf"^  --{name} .*$", script_help, re.MULTILINE)[0]
        assert line.endswith(f", default is {default}") or not shown, line


def test_the_chinese_readme_has_every_flag():
    from swa.training.flags import Config

    rows = rows_after(PAGES["README.zh.md"], "| 组 | 参数 |")
    told = dict(re.findall(r"`--(\w+)`(?:（(.*?)）)?", " ".join(r[1] for r in rows)))
    defaults = Config()._asdict()
    del defaults["typed"]
    assert set(told) == set(defaults)
    for name, default in defaults.items():
        assert default in ("", None) or told[name] == str(default), name


@pytest.mark.parametrize("launcher", ["train_full_1p.sh", "train_performance_1p.sh"])
def test_the_flag_table_is_the_launchers_help(launcher):
    command = ["bash", str(ROOT / "test" / launcher), "--help"]
    told = subprocess.check_output(command, timeout=60).decode()
    table = flag_table("docs/trainer.md")
    entries = re.split(r"^    --", told, flags=re.MULTILINE)[1:]
    found = {}
    for entry in entries:
        text = " ".join(entry.split())
        default = re.search(r"default is (\S+)$", text)
        found[re.match(r"\w+", text)[0]] = default[1].rstrip(",") if default else ""
    assert set(found) == set(table)
    for name, default in found.items():
        if name == "train_epochs":
            assert default == {"train_full_1p.sh": "100"}.get(launcher, "40")
        elif table[name] and default:
            assert default == table[name], name


@pytest.mark.parametrize("page", ["README.md", "README.zh.md", "docs/developing.md"])
def test_the_switch_of_the_slow_tests_is_named(page):
    assert "`SWA_TEST_NPU=all`" in PAGES[page]


@pytest.mark.parametrize("page", PAIRS[2])
def test_each_published_remedy_is_in_the_table_of_failures(page):
    heads = "| 报错 | 原因与做法 |", "| message | cause and remedy |"
    table = dict(rows_after(PAGES[page], heads["zh" not in page]))
    for sign, _ in REMEDIES:
        assert f"`{sign}`" in table


@pytest.mark.parametrize("page", PAIRS[0])
def test_the_argument_table_is_the_callbacks_signature_and_help(page):
    from swa.tfkeras import SWA

    heads = "| 参数 | 默认值 | 含义 |", "| argument | default | meaning |"
    rows = rows_after(PAGES[page], heads["zh" not in page])
    table = {row[0].strip("`"): row[1].strip("`") for row in rows}
    found = inspect.signature(SWA.__init__).parameters
    assert list(table) == list(found)[1:]
    for name, default in table.items():
        is_needed = found[name].default is inspect.Parameter.empty
        assert default == ("" if is_needed else repr(found[name].default)), name
    arguments = SWA.__doc__.split("Args:")[1].split("Attributes:")[0]
    assert re.findall(r"^      (\w+):", arguments, re.MULTILINE) == list(table)


def attributes(page):
    """What the tables and the text name as `swa.name`."""
    return set(re.findall(r"`(?:with )?swa\.(?!tfkeras|keras|pb)([a-z_]+)", page))


def public_names():
    """What help(SWA) shows beside Keras's hooks: properties, methods, attributes."""
    from swa import callback

    names = {n for n in vars(callback.SWA) if not re.match("_|on_|set_model", n)}
    told = callback.SWA.__doc__.split("Attributes:")[1].split("Raises:")[0]
    return names | set(re.findall(r"^      (\w+):", told, re.MULTILINE))


@pytest.mark.parametrize("page", PAIRS[0])
def test_the_page_of_the_callback_has_all_that_is_public(page):
    assert attributes(PAGES[page]) == public_names()
    assert "update_bn(model, x)" in PAGES[page]


@pytest.mark.parametrize("page", PAIRS[0])
def test_the_methods_arguments_are_those_shown(page):
    from swa.tfkeras import SWA

    calls = re.findall(r"`(?:with )?swa\.(\w+)\((\w[^`]*)\)", PAGES[page])
    assert len(calls) > 4
    for name, shown in calls:
        parameters = list(inspect.signature(getattr(SWA, name)).parameters.values())[1:]
        given = [text.strip() for text in shown.split(",")]
        for text, parameter in zip(given, parameters):
            name_shown, _, default = text.partition("=")
            assert name_shown == parameter.name
            assert not default or default == repr(parameter.default), name


def test_every_page_names_what_exists():
    assert attributes(TEXT) <= public_names()


# Links, names, messages


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_link_exists_and_every_anchor_is_a_heading(name):
    links = re.findall(r"\]\(([^)]+)\)", PAGES[name])
    links = [link for link in links if "://" not in link]
    assert len(links) > (0 if name in ("CHANGELOG.md", "CONTRIBUTING.md") else 2)
    for link in links:
        path, _, anchor = link.partition("#")
        target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert target.exists(), link
        if anchor:
            page = PAGES[str(target.relative_to(ROOT.resolve()))]
            assert anchor in slugs(page), link


def test_every_test_that_is_named_exists():
    tests = "".join(path.read_text() for path in (ROOT / "test").glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(named) > 15
    assert not [name for name in named if f"def {name}(" not in tests]


def source():
    """The project's messages, each on one line."""
    paths = [*ROOT.glob("*.py"), *ROOT.glob("swa/**/*.py")]
    paths += [*ROOT.glob("test/launcher/*.py"), ROOT / "test" / "check_npu.py"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    text = re.sub(r'"\s*\n\s*f?"', "", text)
    shell = "\n".join(path.read_text() for path in ROOT.glob("test/*.sh"))
    return text + re.sub(r'"\s*\\\n\s*"', " ", shell)


@pytest.mark.parametrize("page", WITH_MESSAGES)
def test_the_messages_are_the_projects(page):
    heads = "| 报错 | 原因与做法 |", "| message | cause and remedy |"
    text = source()
    for row in rows_after(PAGES[page], heads["zh" not in page]):
        message = row[0].strip("`")
        if message.startswith("unexpected keyword argument"):
            continue  # Python's own
        for words in message.split("..."):
            assert words.strip() in text, message


def test_files_name_no_machine():
    for word in ("/tmp/", "/root/", "/work/", "/home/user"):
        assert word not in TEXT


def test_the_chinese_pages_use_the_fields_words():
    # BN, 采样, 学习率策略, batch, 无限数据集, 不受影响
    translated = (
        "批归一化 取样 学习率计划 批大小 没有尽头 如同什么也没有发生 每批".split()
    )
    for name, text in PAGES.items():
        if "zh" in name:
            assert not [word for word in translated if word in text], name


@pytest.mark.parametrize("page", READMES)
def test_a_readme_is_short(page):
    assert len(PAGES[page].splitlines()) <= 200
