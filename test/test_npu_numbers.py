# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the device's own numbers do to SWA: float16, variances, static shapes."""

import os
import re

import pytest
from support import npu_fake

START = f"""
import sys, warnings
sys.path[:0] = [{npu_fake.ROOT!r}, {os.path.join(npu_fake.ROOT, "test")!r}]
import npu_programs as programs
from swa.tfkeras import SWA, update_bn
options = [["use_off_line", "b", True], ["precision_mode", "s", MODE]]
if MIXLIST:
    options.append(["modify_mixlist", "s", "list.json"])
    with open("list.json", "w") as file:
        file.write(MIXLIST)
K, layers = tf.keras.backend, tf.keras.layers
K.set_session(session_of([options]))
"""
MOMENTS = "write('result', **programs.unfused_moments())\n"
STEP = """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    step = programs.one_step()
ours = [str(one.message) for one in caught if "SWA" in str(one.message)]
write("result", warned=ours, **step)
"""
VARIANCE = """
model = tf.keras.Sequential([layers.BatchNormalization(input_shape=(4, 4, 64))])
x = 1000.3 + 0.01 * np.random.RandomState(0).randn(2, 4, 4, 64)
update_bn(model, x.astype("float32"), 2)
write("result", variance=model.get_weights()[3].tolist())
"""
SIZES = """
model = tf.keras.Sequential()
model.add(layers.Dense(4, input_shape=(3,)))
model.add(layers.BatchNormalization())
model.add(layers.Dense(1))
model.compile("sgd", "mse")
x, swa = np.random.RandomState(0).randn(40, 3), SWA(2)
model.fit(x, x[:, :1], 20, 3, verbose=0, callbacks=[swa])
first, second = [dict(apply=swa.apply, update_bn=lambda x, size: update_bn(
    model, x, size))[name] for name in CALLS]
first(x, 20)
before = model.get_weights()
refused = ""
try:
    second(x, 10)
except ValueError as error:
    refused = str(error)
first(x, 20)
write("result", refused=refused, same=all(
    np.array_equal(a, b) for a, b in zip(before, model.get_weights())))
"""
with open(os.path.join(npu_fake.ROOT, "docs", "ascend.md"), encoding="utf-8") as _page:
    (MIXLIST,) = re.findall("```json\n(.*?)```", _page.read(), re.DOTALL)
CALLS = [("apply", "update_bn"), ("update_bn", "apply")]


def case(code, mode="allow_mix_precision", mixlist="", calls=(), **environ):
    names = f"MODE, MIXLIST, CALLS = {mode!r}, {mixlist!r}, {calls!r}\n"
    return {"release": "1.6", "code": names + START + code, "environ": environ}


CASES = {
    "mixlist": case(MOMENTS, mixlist=MIXLIST),
    "squares": case(VARIANCE, FAKE_NPU_VARIANCE="squares"),
    **{("moments", mode): case(MOMENTS, mode) for mode in npu_fake.MODES},
    **{("step", mode): case(STEP, mode) for mode in npu_fake.MODES},
    **{calls: case(SIZES, calls=calls) for calls in CALLS},
}


@pytest.fixture(scope="module")
def results(npu_forks, tmp_path_factory):
    """{name: what a case has found}, or its error."""
    folder = tmp_path_factory.mktemp("numbers")
    outcomes = npu_fake.trial(npu_forks, list(CASES.values()), folder)
    found = {}
    for name, outcome in zip(CASES, outcomes):
        events = npu_fake.only(outcome["events"], "result")
        found[name] = events[0] if events else {"error": outcome["stderr"][-2000:]}
    return found


@pytest.mark.parametrize("mode", ["allow_mix_precision", "force_fp16"])
def test_moments_of_an_unfused_layer_are_rounded_and_saturate(results, mode):
    found = results["moments", mode]
    assert 1e-5 < found["error"] < 5e-4
    assert found["saturated"] < 0.6


@pytest.mark.parametrize(
    "name",
    [
        ("moments", "allow_fp32_to_fp16"),
        ("moments", "must_keep_origin_dtype"),
        "mixlist",
    ],
)
def test_the_documented_remedies_keep_moments_in_float32(results, name):
    found = results[name]
    assert found["error"] < 1e-6
    assert abs(found["saturated"] - 1) < 1e-6


@pytest.mark.parametrize("mode", npu_fake.MODES)
def test_the_planned_rate_is_told_in_every_mode(results, mode):
    found = results["step", mode]
    assert found["warned"] == []
    assert abs(found["told"] - found["planned"]) < 1e-7


@pytest.mark.parametrize("mode", npu_fake.MODES)
def test_a_step_uses_the_planned_rate_in_every_mode(results, mode):
    found = results["step", mode]
    assert abs(found["used"] - found["planned"]) < 1e-7
    assert found["error"] < 1e-6


def test_a_variance_below_zero_counts_as_none(results):
    variance = results["squares"]["variance"]
    assert min(variance) == 0
    assert max(variance) < 1  # float32 holds a million's square root no better


@pytest.mark.parametrize("calls", CALLS)
def test_another_batch_size_than_before_is_refused_in_one_line(results, calls):
    found = results[calls]
    assert "error" not in found, found
    assert re.fullmatch(r".*\b20\b.*\b10\b.*|.*\b10\b.*\b20\b.*", found["refused"])
    assert found["same"]
