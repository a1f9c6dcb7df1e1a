# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""On an NPU, where a graph has one shape, batches of unequal size are refused."""

import re

import numpy as np
import pytest
from support import npu_fake

from swa.tfkeras import SWA, update_bn

TOLD = (
    "{} must give batches of equal size on an NPU, got {}. "
    "Choose a batch_size that divides the rows, or leave some out."
)
EXCESS = "40 rows for batch_size 16"
NAMES_OF_HELD_OUT = {"validation", "validation_rows"}


def told(name, got):
    return "^" + re.escape(TOLD.format(name, got)) + "$"


def model_of(tf):
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Dense(4, activation="relu", input_shape=(3,), name="rows"),
            layers.BatchNormalization(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def rows(count):
    return np.random.RandomState(0).randn(count, 3).astype("f4"), np.arange(count) % 2


@pytest.fixture
def on_npu(tf_kit):
    """A function that opens an NPU's session: as stock TensorFlow runs it."""
    import tensorflow as tf

    if tf_kit.is_eager:
        pytest.skip("an NPU has graph mode alone")

    def opened(**options):
        proto = tf.compat.v1.ConfigProto()
        entry = proto.graph_options.rewrite_options.custom_optimizers.add()
        entry.name = "NpuOptimizer"
        for key, value in options.items():
            entry.parameter_map[key].b = value
        tf.keras.backend.set_session(tf.compat.v1.Session(config=proto))
        return model_of(tf)

    return opened


def trained(model, **options):
    swa = SWA(3, **options)
    model.fit(*rows(32), batch_size=16, epochs=5, verbose=0, callbacks=[swa])
    return swa


def sequence(*counts):
    import tensorflow as tf

    class Batches(tf.keras.utils.Sequence):
        def __len__(self):
            return len(counts)

        def __getitem__(self, index):
            return rows(counts[index])

    return Batches()


@pytest.mark.parametrize("call", ["update_bn", "apply", "average_applied"])
@pytest.mark.parametrize(
    "x, got",
    [
        (lambda: rows(40)[0], EXCESS),
        (lambda: rows(40), EXCESS),
        (lambda: {"rows_input": rows(40)[0]}, EXCESS),
        (lambda: sequence(16, 16, 8), "batches of 16 and 8"),
        (lambda: iter([rows(8)[0], rows(16)[0]]), "batches of 8 and 16"),
    ],
    ids=["array", "tuple", "dict", "Sequence", "iterable"],
)
def test_short_last_batch_is_refused(on_npu, call, x, got):
    model = on_npu(use_off_line=True)
    swa, before = trained(model), model.get_weights()
    x = x()
    with pytest.raises(ValueError, match=told("x", got)):
        if call == "update_bn":
            update_bn(model, x, 16)
        elif call == "apply":
            swa.apply(x, 16)
        else:
            with swa.average_applied(x, 16):
                pass
    for array, expected in zip(model.get_weights(), before):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("name", sorted(NAMES_OF_HELD_OUT))
@pytest.mark.parametrize(
    "uneven, got",
    [(lambda: rows(40), EXCESS), (lambda: sequence(16, 8), "batches of 16 and 8")],
    ids=["arrays", "Sequence"],
)
def test_short_last_batch_of_validation_is_refused_at_the_start(
    on_npu, name, uneven, got
):
    model = on_npu(use_off_line=True)
    held_out = dict.fromkeys(NAMES_OF_HELD_OUT, rows(32))
    held_out[name] = uneven()
    before = model.get_weights()
    with pytest.raises(ValueError, match=told(name, got)):
        trained(model, **held_out)
    for array, expected in zip(model.get_weights(), before):
        np.testing.assert_array_equal(array, expected)


def test_equal_batches_of_validation_are_taken(on_npu):
    model = on_npu(use_off_line=True)
    swa = trained(model, validation=rows(48), validation_rows=sequence(8, 8))
    assert np.isfinite(model.history.history["swa_loss"]).all()
    assert swa.n_averaged == 2


@pytest.mark.parametrize("options", [{"batch_size": 20}, {"batch_size": 64}])
def test_rows_that_fill_their_batches_are_taken(on_npu, options):
    update_bn(on_npu(use_off_line=True), rows(40)[0], **options)


def test_steps_leave_the_last_rows_out(on_npu):
    model = on_npu(use_off_line=True)
    update_bn(model, rows(40)[0], 16, steps=2)
    with pytest.raises(ValueError, match=told("x", EXCESS)):
        update_bn(model, rows(40)[0], 16, steps=3)


def test_a_session_with_dynamic_input_takes_any(on_npu):
    update_bn(on_npu(use_off_line=True, dynamic_input=True), rows(40)[0], 16)


def test_a_session_without_the_npu_s_entry_takes_any(tf_kit):
    import tensorflow as tf

    update_bn(model_of(tf), rows(40)[0], 16)


ON_THE_FAKE = """
import sys
sys.path.insert(0, {root!r})
sys.path.insert(0, {root!r} + "/test")
from swa.tfkeras import update_bn
from test_equal_batches import model_of, rows

tf.keras.backend.set_session(session_of([[["use_off_line", "b", True]]]))
model = model_of(tf)
before = model.get_weights()
x = rows(40)[0]
for size in {sizes}:
    write("try", size=size)
    try:
        update_bn(model, x, size)
    except ValueError as error:
        write("refused", text=str(error))
    write("tried")
    after = model.get_weights()
    write("weights", changed=[
        int(not np.array_equal(a, b)) for a, b in zip(before, after)])
    before = after
"""


def on_the_fake(npu_forks, releases, sizes, tmp_path, first=""):
    code = first + ON_THE_FAKE.format(root=npu_fake.ROOT, sizes=sizes)
    cases = [{"release": release, "code": code} for release in releases]
    return npu_fake.trial(npu_forks, cases, tmp_path)


def test_refused_before_the_device_is_asked(npu_forks, tmp_path):
    for outcome in on_the_fake(npu_forks, ["1.3", "1.6"], [20, 16], tmp_path):
        assert outcome["status"] == "ok", outcome["stderr"]
        events = outcome["events"]
        names = [event["event"] for event in events]
        (refusal,) = npu_fake.only(events, "refused")
        assert refusal["text"] == TOLD.format("x", EXCESS)
        second = names.index("try", names.index("try") + 1)
        assert names[second : names.index("tried", second)] == ["try", "refused"]
        changed = [event["changed"] for event in npu_fake.only(events, "weights")]
        assert changed == [[0, 0, 0, 0, 1, 1, 0, 0], [0] * 8]


def test_the_device_fails_where_nothing_refuses(npu_forks, tmp_path):
    first = f"import sys\nsys.path.insert(0, {npu_fake.ROOT!r})\n"
    first += "from swa import rows\nrows.has_static_shapes = lambda: False\n"
    aborted, failed = on_the_fake(npu_forks, ["1.3", "1.6"], [16], tmp_path, first)
    assert (aborted["status"], failed["status"]) == ("abort", "error")
    for outcome in aborted, failed:
        assert "fed [(8, 3), ()] to a graph of [(16, 3), ()]" in outcome["stderr"]
