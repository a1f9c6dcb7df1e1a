# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What is refused, in one line, when training begins, and that nothing is left behind.

Arguments alone: test_schedules. Rows: test_rows, test_row_batches. States:
test_state. Rates that cannot be set: test_rate_of_batches. Batch norm whose moments are
not known: test_batch_norm_kinds, test_moment_search.
"""

import numpy as np
import pytest
from support.callback_kit import (
    CLASSES,
    FEATURES,
    ROWS,
    SAMPLED,
    assert_averaged,
    assert_statistics,
    at,
    both_modes,
    build,
    data,
    equal,
    fit,
    new_models,
    only_eager,
    recorder,
    refused,
    used_models,
)

pytestmark = used_models

# Settings that contradict the run


@both_modes
def test_start_epoch_must_be_below_epochs(kit):
    with refused("start_epoch must be below epochs.*7.*7"):
        fit(build(kit), kit.SWA(7), epochs=7)


@both_modes
def test_swa_lr_above_the_compiled_rate_is_refused(kit):
    with refused("swa_lr must not be above.*0.1, got 0.5"):
        fit(build(kit), kit.SWA(3, "constant", 0.5))


def test_a_schedule_whose_one_sample_is_the_batch_norm_epoch_is_refused(kit):
    model = build(kit)
    swa = kit.SWA(4, swa_freq=2, snapshot="cycle_end")
    with refused("the batch-norm epoch"):
        swa.plan(5, 4, 0.1, True)
    with refused("the batch-norm epoch"):
        fit(model, swa, epochs=5)
    assert swa.plan(5, 4, 0.1, False).sampled_epochs == [5]
    fit(model, swa, epochs=6)
    assert swa.n_averaged == len(swa.plan(6, 4).sampled_epochs) == 1


def test_ranks_must_be_able_to_sum(tf_kit):
    with refused("ranks must be.*got 2"):
        tf_kit.SWA(3, ranks=2)
    with refused("ranks must be.*got 2"):
        tf_kit.update_bn(build(tf_kit), data()[0], ranks=2)


# Frameworks


@new_models
def test_a_model_of_the_other_keras_is_refused(tf_kit):
    pytest.importorskip("keras")
    from swa.keras import SWA as KerasSWA

    swa = KerasSWA(3)
    swa.set_model(build(tf_kit))
    swa.set_params({"epochs": 7})
    with refused("model must be a keras model"):
        swa.on_train_begin()


def test_another_tensorflow_is_refused(tf_kit, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf, "__version__", "2.4.1")
    with pytest.raises(RuntimeError, match="TensorFlow 1.15, found 2.4.1"):
        tf_kit.SWA(3)


@new_models
@both_modes
@pytest.mark.parametrize("within", ["compile", "fit"])
def test_a_distribution_strategy_is_refused(tf_kit, within):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with refused("tf.distribute strategy scope"):
        with strategy.scope():
            model = build(tf_kit)
            if within == "fit":
                fit(model, tf_kit.SWA(3))
        fit(model, tf_kit.SWA(3))


@new_models
@only_eager("has the graph function")
@pytest.mark.parametrize(
    "cause", ["sample_weight_mode", "target_tensors", "tf.train", "experimental_run"]
)
def test_each_cause_of_the_eager_graph_function_is_named(tf_kit, cause):
    import tensorflow as tf

    layers = tf_kit.keras.layers
    dense = layers.Dense(1, input_shape=(3, FEATURES))
    model = tf_kit.keras.Sequential([dense, layers.BatchNormalization()])
    plain = tf_kit.keras.Sequential([layers.Dense(1, input_shape=(3, FEATURES))])
    x = np.random.RandomState(0).randn(ROWS, 3, FEATURES).astype("float32")
    options = {
        "sample_weight_mode": dict(sample_weight_mode="temporal"),
        "target_tensors": dict(target_tensors=[tf_kit.keras.Input((3, 1))]),
        "tf.train": dict(optimizer=tf.compat.v1.train.GradientDescentOptimizer(0.1)),
        "experimental_run": dict(experimental_run_tf_function=False),
    }[cause]
    options = dict(dict(optimizer="sgd", loss="mse"), **options)
    model.compile(**options)
    with refused(cause):
        fit(model, tf_kit.SWA(2), rows=(x, x[..., :1]))
    plain.compile(**options)  # its step need not change
    samples = []
    keep = at(tf_kit, "on_epoch_end", lambda model: samples.append(model.get_weights()))
    fit(plain, tf_kit.SWA(2), keep, rows=(x, x[..., :1]))
    assert_averaged(plain, samples[1:])
    if cause in ("sample_weight_mode", "tf.train"):
        # Keras takes target_tensors in its graph function alone
        model.compile(run_eagerly=True, **options)
        swa = tf_kit.SWA(2)
        fit(model, swa, rows=(x, x[..., :1]))
        assert (swa.n_averaged, swa.batch_norm_epoch) == (2, 4)


class DataFrame:
    """As pandas has it, which Keras tells by this name; here only its `values`."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __len__(self):
        return len(self.values)


@new_models  # Keras cannot train one both ways
@only_eager("has another loop for other rows")
@pytest.mark.parametrize("kind", ["frame", "list of series", "dict", "HDF5 matrix"])
def test_rows_that_eager_mode_trains_by_another_loop_are_refused(
    tf_kit, tmp_path, kind
):
    import h5py

    x, y = data()
    path = str(tmp_path / "rows.h5")
    with h5py.File(path, "w") as file:
        file["x"] = x
    h5py.get_config().default_file_mode = "r"  # else it warns of its next default
    model = build(tf_kit)
    rows = {
        "frame": lambda: DataFrame(x),
        "list of series": lambda: [DataFrame(x)],
        "dict": lambda: {model.input_names[0]: DataFrame(x)},
        "HDF5 matrix": lambda: tf_kit.keras.utils.HDF5Matrix(path, "x"),
    }[kind]()
    before = model.get_weights()
    with refused("x must be arrays, tensors, a Sequence or a data set in eager mode"):
        fit(model, tf_kit.SWA(2), rows=(rows, y))
    assert equal(model.get_weights(), before)


@new_models
@only_eager("has another loop for other rows")
def test_the_remedies_for_other_rows_in_eager_mode_work(tf_kit):
    x, y = data()
    for rows, options in (
        (DataFrame(x).values, {}),
        (DataFrame(x), {"run_eagerly": True}),
    ):
        model = build(tf_kit, **options)
        seen = recorder(tf_kit)
        fit(model, tf_kit.SWA(2), seen, rows=(rows, y))
        assert_averaged(model, seen.weights[SAMPLED], x)


@new_models
def test_a_finalized_graph_is_refused(kit):
    import tensorflow as tf

    model = build(kit)
    fit(model, epochs=1)
    before = model.get_weights()
    tf.compat.v1.get_default_graph().finalize()
    with refused("graph must not be finalized before fit"):
        fit(model, kit.SWA(2, "constant", 0.01))
    assert equal(model.get_weights(), before)
    fit(model, epochs=1)
    assert not equal(model.get_weights(), before)


# Two callbacks


@both_modes
@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch norm", "plain"])
def test_a_second_swa_in_one_fit_is_refused_and_the_model_trains_on(kit, batch_norm):
    model = build(kit, batch_norm)
    seen = recorder(kit)
    with refused("callbacks must hold one SWA in a fit of"):
        fit(model, kit.SWA(2, "constant", 0.01), kit.SWA(3))
    fit(model, seen)
    np.testing.assert_allclose(seen.rates, 0.1, rtol=1e-6)
    assert not equal(seen.weights[0], seen.weights[1])
    fit(model, kit.SWA(2), seen)
    assert_averaged(model, seen.weights[1 : 3 if batch_norm else 4])


@both_modes
def test_a_callback_given_twice_is_refused(kit):
    swa = kit.SWA(2)
    with refused("callbacks must hold one SWA"):
        fit(build(kit), swa, swa)


@both_modes
@pytest.mark.parametrize("same", [True, False], ids=["the same one", "another"])
def test_swa_in_a_nested_fit_of_the_same_model_is_refused(kit, same):
    model = build(kit, False)
    swa = kit.SWA(2)
    inner = swa if same else kit.SWA(2)
    nest = at(kit, "on_epoch_end", lambda model: fit(model, inner), 1)
    with refused("nested fits included, got a second"):
        fit(model, swa, nest)
    fit(model, swa)
    assert swa.n_averaged == 3


@both_modes
def test_a_nested_fit_of_another_model_is_no_concern(kit):
    model = build(kit)
    other = build(kit)
    seen = recorder(kit)
    nest = at(kit, "on_epoch_end", lambda model: fit(other, kit.SWA(2)), 1)
    fit(model, kit.SWA(2), nest, seen)
    assert_averaged(model, seen.weights[SAMPLED], data()[0])
    assert_statistics(other.get_weights(), data()[0])


# What a refusal leaves


@new_models
@both_modes
def test_a_refusal_leaves_the_earlier_average_and_the_next_fit(tf_kit):
    model = build(tf_kit, False)
    swa = tf_kit.SWA(2)
    seen = recorder(tf_kit)
    fit(model, swa, seen)
    average = swa.averaged_weights
    with refused("renorm"):
        fit(of_one_norm(tf_kit, renorm=True), swa)
    with refused("start_epoch must be below"):
        fit(model, swa, epochs=2)
    assert equal(swa.averaged_weights, average) and swa.n_averaged == 3
    swa.restore()
    assert equal(model.get_weights(), seen.weights[-1])
    fit(model, swa, seen)
    assert_averaged(model, seen.weights[1:])


@both_modes
def test_a_refusal_leaves_the_model_usable_without_swa(kit):
    model = build(kit)
    swa = kit.SWA(3, swa_freq=9, snapshot="cycle_end")
    with refused("swa_freq must leave an epoch to be sampled"):
        fit(model, swa)
    before = model.get_weights()
    fit(model, epochs=1)
    assert not equal(before, model.get_weights())


# Batch norm whose moments cannot be known


def of_one_norm(kit, **options):
    layers = kit.keras.layers
    norm = layers.BatchNormalization(**options)
    hidden = layers.Dense(4, input_shape=(FEATURES,))
    head = layers.Dense(CLASSES, activation="softmax")
    model = kit.keras.Sequential([hidden, norm, head])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@new_models
@both_modes
@pytest.mark.parametrize("option, value", [("renorm", True), ("virtual_batch_size", 2)])
def test_a_batch_norm_of_other_moments_is_refused(tf_kit, option, value):
    with refused(f"batch-norm layer '.*' must not use {option}"):
        fit(of_one_norm(tf_kit, **{option: value}), tf_kit.SWA(3))


@new_models
def test_a_wrapped_train_function_and_batch_norm_are_refused(kit):
    """In graph mode, which alone has a train function."""
    model = build(kit)
    model._make_train_function()
    inner = model.train_function
    model.train_function = lambda values: inner(values)
    with refused("train_function must be Keras's own"):
        fit(model, kit.SWA(2, "constant", 0.01))
    before = model.get_weights()
    fit(model, epochs=1)
    assert not equal(before, model.get_weights())


@new_models
def test_a_batch_norm_within_a_tf_function_is_refused_by_name(tf_kit):
    """In graph mode, which hides its moments; eager mode: test_models."""
    import tensorflow as tf

    layers = tf_kit.keras.layers

    class Traced(tf_kit.keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = layers.BatchNormalization(name="within")
            self.head = layers.Dense(CLASSES, activation="softmax")

        @tf.function
        def call(self, inputs, training=None):
            return self.head(self.norm(inputs, training=training))

    model = Traced()
    model.compile("sgd", "sparse_categorical_crossentropy")
    fit(model, epochs=1)
    with refused("batch-norm layer 'within'"):
        fit(model, tf_kit.SWA(2))
    with refused("batch-norm layer 'within'"):
        tf_kit.update_bn(model, data()[0])
    model.norm.trainable, still = False, model.norm.get_weights()
    tf_kit.update_bn(model, data()[0])
    assert equal(model.norm.get_weights(), still)
    swa = tf_kit.SWA(2)
    seen = recorder(tf_kit)
    fit(model, swa, seen)
    assert swa.batch_norm_epoch is None
    assert_averaged(model, seen.weights[1:])


@new_models
@only_eager("reads the code of a call")
def test_a_call_that_always_runs_as_a_graph_is_refused_by_name(tf_kit):
    from tensorflow.python.eager import function  # whose `defun` tf.contrib has

    layers = tf_kit.keras.layers

    class Norm(layers.BatchNormalization):
        @function.defun
        def call(self, inputs, training=None):
            return super(Norm, self).call(inputs, training=training)

    model = tf_kit.keras.Sequential([Norm(name="own"), layers.Dense(1)])
    x = data()[0]
    model.compile("sgd", "mse")
    with refused("batch-norm layer 'own'"):
        fit(model, tf_kit.SWA(2), rows=(x, x[:, :1]))
