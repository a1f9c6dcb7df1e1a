# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How tests run processes on the fake NPU of test/fake_npu."""

import json
import os
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
FAKE = os.path.join(ROOT, "test", "fake_npu")
OPP = os.path.join(FAKE, "opp")
RELEASES = ("1.1", "1.2", "1.3", "1.5", "1.6", "1.7", "1.8")
MODES = (  # of precision_mode
    "allow_mix_precision",
    "allow_fp32_to_fp16",
    "force_fp16",
    "must_keep_origin_dtype",
)
DIAGNOSTICS = ("", "over_dump", "data_dump_flag", "profiling")
# What an Ascend installation, or a launcher, may have set on this machine.
_FOREIGN = ("ASCEND", "RANK_", "JOB_ID", "DEVICE_ID", "PROFILING_", "FAKE_NPU_", "SWA_")


def environment(record, release="1.6", **more):
    """The variables of a process on one fake NPU.

    Args:
      record: path that gets the fake's record.
      release: the fake adapter's.
      **more: variables to set; None unsets one.
    """
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN)
    }
    path = [FAKE, variables.get("PYTHONPATH")]
    # beside an NPU test/env.sh takes no PYTHON of the project's .venv, but one on PATH
    programs = [os.path.dirname(sys.executable), variables["PATH"]]
    variables.update(
        ASCEND_DEVICE_ID="0",
        ASCEND_OPP_PATH=OPP,
        FAKE_NPU_ADAPTER=release,
        FAKE_NPU_RECORD=str(record),
        PATH=os.pathsep.join(programs),
        PYTHONPATH=os.pathsep.join(filter(None, path)),
        TF_CPP_MIN_LOG_LEVEL="2",
    )
    variables.update(more)
    return {name: value for name, value in variables.items() if value is not None}


def read_record(path):
    """The events of a record, as dicts in their order."""
    if not os.path.exists(str(path)):
        return []
    with open(str(path)) as file:
        return [json.loads(line) for line in file]


def only(events, name):
    """The events of this name."""
    return [event for event in events if event["event"] == name]


def trial(forks, cases, folder):
    """Runs cases as fake_device/trial.py describes them; returns their outcomes.

    Args:
      forks: fork_server.Client.
      cases: list of dicts.
      folder: path, where they run.
    """
    script = os.path.join(FAKE, "fake_device", "trial.py")
    given = f"import io, sys\nsys.stdin = io.StringIO({json.dumps(cases)!r})"
    variables = environment(os.devnull)
    done = forks.result(folder, [], variables, script=script, first=given)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
