# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Rows of every kind for `update_bn`; on an NPU, where a graph has one shape, those
of unequal batches are refused.
"""

import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import IS_EAGER, ROOT
from support import npu_fake
from support.callback_kit import (
    FEATURES,
    equal,
    handed_on,
    refused,
    two_inputs,
    used_models,
)

from swa.tfkeras import SWA, update_bn

UNEQUAL = (
    "{} must give batches of equal size on an NPU, got {}. "
    "Choose a batch_size that divides the rows, the same at each call, or leave "
    "some out."
)
EXCESS = "40 rows for batch_size 16"
NAMES_OF_HELD_OUT = {"validation", "validation_rows"}


def unequal(name, got):
    return "^" + re.escape(UNEQUAL.format(name, got)) + "$"


GRAPH_ALONE = pytest.mark.skipif(IS_EAGER, reason="only graph mode runs on an NPU")


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
        pytest.skip("only graph mode runs on an NPU")

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


# Rows of every kind


@handed_on
def norm_model(kit):
    """A model that is nothing but a batch norm of three features, and that layer."""
    norm = kit.keras.layers.BatchNormalization(name="norm")
    inputs = kit.keras.layers.Input((3,), name="x")
    return kit.keras.Model(inputs, norm(inputs)), norm


def assert_mean(norm, x):
    # rtol, atol: float32 batch moments of values of magnitude 1
    np.testing.assert_allclose(norm.get_weights()[2], x.mean(0), rtol=1e-5, atol=1e-6)


class Frame:
    """As pandas has it: its rows are in `values`, and an index selects columns."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape


def scipy_rows():
    x = rows(40)[0]
    return {
        "csr": lambda sparse: sparse.csr_matrix(x),
        "coo": lambda sparse: sparse.coo_matrix(x),
        "csc in a list": lambda sparse: [sparse.csc_matrix(x)],
        "csr by name": lambda sparse: {"x": sparse.csr_matrix(x)},
        "csr with labels": lambda sparse: (sparse.csr_matrix(x), np.zeros(40)),
        "batches": lambda sparse: map(sparse.csr_matrix, [x[:30], x[30:]]),
    }


@used_models
@pytest.mark.both_modes
@pytest.mark.parametrize("kind", sorted(scipy_rows()))
def test_a_scipy_matrix_is_made_dense_batch_by_batch(kit, kind):
    sparse = pytest.importorskip("scipy.sparse")
    model, norm = norm_model(kit)
    kit.update_bn(model, scipy_rows()[kind](sparse), batch_size=16)
    assert_mean(norm, rows(40)[0])


@used_models
@pytest.mark.both_modes
@pytest.mark.parametrize(
    "frames",
    [Frame, lambda x: [Frame(x)], lambda x: iter([Frame(x[:30]), Frame(x[30:])])],
    ids=["alone", "in a list", "batches"],
)
def test_frames_are_read_by_their_values(kit, frames):
    model, norm = norm_model(kit)
    kit.update_bn(model, frames(rows(40)[0]))
    assert_mean(norm, rows(40)[0])


def sparse_rows():
    import tensorflow as tf

    value = tf.compat.v1.SparseTensorValue([[0, 1], [3, 2]], np.ones(2, "f4"), [4, 3])
    ragged = tf.compat.v1.ragged.constant_value([[1.0], [2.0, 3.0]])
    slices = tf.data.Dataset.from_tensor_slices
    return {
        "SparseTensor": lambda: tf.SparseTensor(*value),
        "SparseTensorValue": lambda: value,
        "SparseTensorValue in a list": lambda: [value],
        "SparseTensorValue with labels": lambda: (value, np.zeros(4)),
        "SparseTensorValue in batches": lambda: iter([value]),
        "SparseTensor in a data set": lambda: slices(value).batch(2),
        "RaggedTensor": lambda: tf.ragged.constant([[1.0], [2.0, 3.0]]),
        "RaggedTensor by name": lambda: {"x": tf.ragged.constant([[1.0], []])},
        "RaggedTensorValue": lambda: ragged,
        "RaggedTensor in a data set": lambda: slices((ragged, [0, 1])).batch(2),
    }


@pytest.mark.both_modes
def test_inputs_of_unequal_length_are_refused(kit):
    model = two_inputs(kit)[0]
    x = np.ones((8, FEATURES), "f4")
    with pytest.raises(ValueError, match=r"equally many rows, got \[8, 5\]"):
        kit.update_bn(model, [x, x[:5]])


@used_models
@pytest.mark.both_modes
@pytest.mark.parametrize("kind", sorted(sparse_rows()))
def test_sparse_and_ragged_rows_are_refused_in_one_line(kit, kind):
    model = norm_model(kit)[0]
    before = model.get_weights()
    refusal = f"^x must be dense rows for dense inputs, got a {kind.split()[0]}.*fit"
    with refused(refusal):
        kit.update_bn(model, sparse_rows()[kind]())
    assert equal(model.get_weights(), before)


@pytest.mark.both_modes
def test_a_sparse_input_is_refused_in_one_line(kit):
    import tensorflow as tf

    layers = kit.keras.layers
    inputs = layers.Input((3,), sparse=True)
    dense = layers.Lambda(lambda x: tf.sparse.to_dense(x), output_shape=(3,))(inputs)
    dense.set_shape((None, 3))
    model = kit.keras.Model(inputs, layers.BatchNormalization()(dense))
    with refused("^x must be dense rows .*SparseTensor"):
        kit.update_bn(model, rows(40)[0])


@used_models
@pytest.mark.both_modes
@pytest.mark.parametrize(
    "x, sentence",
    [
        (lambda x: x[:, :2], r"expected x to have shape \(3,\) but got .* \(2,\)"),
        (lambda x: x[None], "expected x to have 2 dimensions"),
        (lambda x: {"y": x}, 'No data provided for "x"'),
        (lambda x: [x, x], r"x must hold 1 array\(s\), .*, got 2"),
        (lambda x: iter([x, x[:, :2]]), r"expected x to have shape \(3,\)"),
    ],
    ids=["too narrow", "an axis more", "another name", "two", "second batch"],
)
def test_rows_that_are_not_as_the_inputs_get_one_line(kit, x, sentence):
    model = norm_model(kit)[0]
    before = model.get_weights()
    with refused(sentence):
        kit.update_bn(model, x(rows(40)[0]))
    assert equal(model.get_weights(), before)


LOGGED = """
import numpy as np
import tensorflow as tf
from swa.tfkeras import SWA, update_bn

layers = tf.keras.layers
norm = layers.BatchNormalization(input_shape=(3,))
model = tf.keras.Sequential([norm, layers.Dense(1)])
model.compile("sgd", "mse")
x, y = np.ones((40, 3)), np.ones(40)
swa = SWA(2, "constant", 0.001, validation=(x, y), validation_rows=x)
model.fit(x, y, epochs=4, verbose=0, callbacks=[swa])
swa.restore()
swa.apply(x)
update_bn(model, tf.ones((40, 3)), steps=1)
"""


@GRAPH_ALONE
def test_no_deprecation_is_logged_of_the_projects_files():
    run = subprocess.run(
        [sys.executable, "-c", LOGGED],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    report = run.stdout.decode()
    assert run.returncode == 0, report
    assert str(ROOT / "swa") not in report, report


# On an NPU


@pytest.mark.parametrize(
    "call, x, got",
    [
        ("update_bn", lambda: rows(40)[0], EXCESS),
        ("apply", lambda: rows(40), EXCESS),
        ("average_applied", lambda: {"rows_input": rows(40)[0]}, EXCESS),
        ("apply", lambda: sequence(16, 16, 8), "[(8, 3)] after [(16, 3)]"),
        (
            "update_bn",
            lambda: iter([rows(8)[0], rows(16)[0]]),
            "[(16, 3)] after [(8, 3)]",
        ),
    ],
    ids=["array", "tuple", "dict", "Sequence", "iterable"],
)
def test_short_last_batch_is_refused(on_npu, call, x, got):
    model = on_npu(use_off_line=True)
    swa, before = trained(model), model.get_weights()
    x = x()
    with refused(unequal("x", got)):
        if call == "update_bn":
            update_bn(model, x, 16)
        elif call == "apply":
            swa.apply(x, 16)
        else:
            with swa.average_applied(x, 16):
                pass
    assert equal(model.get_weights(), before)


@pytest.mark.parametrize("name", sorted(NAMES_OF_HELD_OUT))
def test_short_last_batch_of_validation_is_refused_at_the_start(on_npu, name):
    model = on_npu(use_off_line=True)
    held_out = dict.fromkeys(NAMES_OF_HELD_OUT, rows(32))
    held_out[name] = rows(40)
    before = model.get_weights()
    with refused(unequal(name, EXCESS)):
        trained(model, **held_out)
    assert equal(model.get_weights(), before)


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
    with refused(unequal("x", EXCESS)):
        update_bn(model, rows(40)[0], 16, steps=3)


def test_another_batch_size_than_in_an_earlier_call_is_refused(on_npu):
    model = on_npu(use_off_line=True)
    update_bn(model, rows(40)[0], 20)
    before = model.get_weights()
    with refused(unequal("x", "[(10, 3)] after [(20, 3)]")):
        update_bn(model, rows(40)[0] + 1, 10)
    assert equal(model.get_weights(), before)
    update_bn(model, rows(60)[0], 20)  # as before, it works


def test_another_model_may_have_another_batch_size(on_npu):
    import tensorflow as tf

    update_bn(on_npu(use_off_line=True), rows(40)[0], 20)
    update_bn(model_of(tf), rows(40)[0], 10)


def test_a_session_with_dynamic_input_takes_any(on_npu):
    update_bn(on_npu(use_off_line=True, dynamic_input=True), rows(40)[0], 16)


@pytest.mark.both_modes
def test_a_session_without_the_npu_s_entry_takes_any(tf_kit):
    import tensorflow as tf

    update_bn(model_of(tf), rows(40)[0], 16)


ON_THE_FAKE = """
import sys
sys.path.insert(0, {root!r})
sys.path.insert(0, {root!r} + "/test")
from swa.tfkeras import update_bn
from test_row_batches import model_of, rows

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


@GRAPH_ALONE
def test_refused_before_the_device_is_asked(npu_forks, tmp_path):
    for outcome in on_the_fake(npu_forks, ["1.3", "1.6"], [20, 16, 10], tmp_path):
        assert outcome["status"] == "ok", outcome["stderr"]
        events = outcome["events"]
        texts = [event["text"] for event in npu_fake.only(events, "refused")]
        cause = "[(10, 3)] after [(20, 3)]"
        assert texts == [UNEQUAL.format("x", EXCESS), UNEQUAL.format("x", cause)]
        names = [event["event"] for event in events]
        starts = [place for place, name in enumerate(names) if name == "try"]
        for start in starts[1:]:
            assert names[start : names.index("tried", start)] == ["try", "refused"]
        changed = [event["changed"] for event in npu_fake.only(events, "weights")]
        assert changed == [[0, 0, 0, 0, 1, 1, 0, 0], [0] * 8, [0] * 8]


@GRAPH_ALONE
def test_the_device_fails_where_nothing_refuses(npu_forks, tmp_path):
    first = f"import sys\nsys.path.insert(0, {npu_fake.ROOT!r})\n"
    first += "from swa import rows\nrows.has_static_shapes = lambda: False\n"
    aborted, failed = on_the_fake(npu_forks, ["1.3", "1.6"], [16], tmp_path, first)
    assert (aborted["status"], failed["status"]) == ("abort", "error")
    for outcome in aborted, failed:
        assert "fed [(8, 3), ()] to a graph of [(16, 3), ()]" in outcome["stderr"]
