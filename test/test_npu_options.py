# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The values of an NPU's options, and what each release of the adapter takes."""

import subprocess
import sys

import pytest
from support.machines import make

from swa.training import npu_options
from swa.training.errors import UserError
from swa.training.flags import FLAGS


@pytest.mark.parametrize(
    "text", ["5", "0", "0|3-7", "7|3", "1-2|2-9|5", "|".join(["8"] * 100)]
)
def test_dump_step_takes_the_vendors_grammar(text):
    npu_options.check_dump_step(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1|",
        "|1",
        "1||2",
        "1 | 2",
        "1,2",
        "-1",
        "1-",
        "1-2-3",
        "1.5",
        "1\n",
        "\u0661",
        "3-3",
        "0|7-3",
        "|".join(["8"] * 101),
        "2147483648",
        "0-2147483648",
    ],
)
def test_dump_step_refuses_the_rest(text):
    with pytest.raises(UserError, match="data_dump_step must be at most 100 .*A below"):
        npu_options.check_dump_step(text)


@pytest.mark.parametrize("mode", FLAGS["precision_mode"].parser.enum_values)
def test_every_precision_mode_is_taken(mode):
    assert make(precision_mode=mode).precision_mode == mode


def test_profiling_json_may_fill_the_buffer_and_no_more():
    config = make(profiling="True", data_save_path="/")
    room = 2047 - len(npu_options.profiling_json(config))
    npu_options.check_values(config._replace(data_save_path="/" + "a" * (room - 1)))
    # one byte more is a slash too: "/aaa" + "/profiling" against "/" + "profiling"
    with pytest.raises(UserError, match="at most 2047 bytes, got 2048"):
        npu_options.check_values(config._replace(data_save_path="/" + "a" * room))


def test_options_module_imports_no_framework():
    code = (
        "import sys, swa.training.npu_options;"
        "assert not {'tensorflow', 'numpy', 'npu_bridge'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# The adapter


@pytest.mark.parametrize("row", npu_options.ADAPTERS, ids=lambda row: row.version)
def test_adapter_rules_follow_the_table(row):
    """since: profiling JSON 1.2, mixlist 1.5; overflow dumps on ranks not with 1.2."""
    since = tuple(int(number) for number in row.version.split("."))
    allowed = [
        ({"profiling": "True"}, 1, since >= (1, 2)),
        ({"modify_mixlist": "/l.json"}, 1, since >= (1, 5)),
        ({"over_dump": "True"}, 1, True),
        ({"over_dump": "True"}, 8, since != (1, 2)),
        ({"data_dump_flag": "True"}, 8, True),
    ]
    for flags, ranks, is_allowed in allowed:
        if is_allowed:
            npu_options.check_adapter(make(**flags), row, ranks)
        else:
            (flag,) = flags
            with pytest.raises(UserError, match=f"{flag}.*r{row.version} "):
                npu_options.check_adapter(make(**flags), row, ranks)
