# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Which batch-norm layers SWA re-estimates, and which it refuses by name.

subclasses         of Keras's layer, right or refused
home-made layers   refused
conditions         Keras's learning phase, flags of the user's own
functions          `tf.function`, control flow v2, recurrent cells
models             a weight listed twice, attributes and weights of the user's own
"""

import re
import warnings

import numpy as np
import pytest
from support.callback_kit import BATCH, EPOCHS, FEATURES, ROWS, equal, fit, refused
from support.norms import (
    FUSED,
    HANDING_ON,
    UNFUSED,
    home_made,
    of_some_rows,
    recurrent_cell,
    renormalization,
)


def rows(shape=(FEATURES,), shift=3.0):
    """(x, y) of ROWS rows, far enough from zero that a wrong count shows."""
    x = np.random.RandomState(1).rand(ROWS, *shape).astype("float32") + shift
    return x, x.reshape((ROWS, -1))[:, :1]


def model_of(kit, norm, shape=(FEATURES,)):
    """A model whose first layer is `norm`: its statistics are those of the rows."""
    keras, layers = kit.keras, kit.keras.layers
    inputs = keras.Input(shape)
    flat = layers.Reshape((int(np.prod(shape)),))
    outputs = layers.Dense(1)(flat(norm(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.001), "mse")
    return model


def train(model, *callbacks, data=None, epochs=EPOCHS):
    fit(model, *callbacks, rows=data or rows(), epochs=epochs)


def statistics(kit, norm):
    return kit.keras.backend.batch_get_value([norm.moving_mean, norm.moving_variance])


def assert_statistics(kit, norm, x):
    """Mean and variance of each channel, the last axis of `x`."""
    x = np.float64(x).reshape((-1, np.shape(x)[-1]))
    mean, variance = statistics(kit, norm)
    # rtol: float32, merged in float64
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, x.var(0), rtol=1e-4)


def assert_refused(kit, model, name, data=None):
    """One line names the layer; the model is as before and trains on without SWA."""
    before = model.get_weights()
    with refused(f"batch-norm layer '{name}' must"):
        train(model, kit.SWA(2), data=data)
    assert equal(model.get_weights(), before)
    train(model, data=data, epochs=1)
    assert not equal(model.get_weights(), before)


# Subclasses


@pytest.mark.both_modes
@pytest.mark.parametrize("make, shape", HANDING_ON)
def test_a_subclass_that_hands_its_inputs_on_is_right(kit, make, shape):
    norm, (x, y) = make(kit), rows(shape)
    model, swa = model_of(kit, norm, shape), kit.SWA(2)
    train(model, swa, data=(x, y))
    assert swa.batch_norm_epoch == EPOCHS
    assert_statistics(kit, norm, x)
    kit.update_bn(model, x * 2)
    assert_statistics(kit, norm, x * 2)


@pytest.mark.both_modes
@pytest.mark.parametrize("shape", [UNFUSED, FUSED], ids=["unfused", "fused"])
def test_a_subclass_has_the_statistics_of_the_rows_that_it_hands_on(tf_kit, shape):
    norm, (x, y) = of_some_rows(tf_kit), rows(shape)
    train(model_of(tf_kit, norm, shape), tf_kit.SWA(2), data=(x, y))
    handed_on = [x[start : start + 10] + 2 for start in range(0, ROWS, BATCH)]
    assert_statistics(tf_kit, norm, np.concatenate(handed_on))


@pytest.mark.both_modes
def test_a_subclass_with_a_call_of_its_own_is_refused(kit):
    class Own(kit.keras.layers.BatchNormalization):
        def call(self, inputs, training=None):
            mean = kit.keras.backend.mean(inputs, 0)
            self.add_update(lambda: self.moving_mean.assign(mean)) if (
                kit.is_eager
            ) else self.add_update(
                [kit.keras.backend.update(self.moving_mean, mean)], inputs
            )
            return inputs * self.gamma - mean + self.beta

    assert_refused(kit, model_of(kit, Own(name="own")), "own")


@pytest.mark.both_modes
def test_a_subclass_with_moments_of_its_own_is_refused(tf_kit):
    class Own(tf_kit.keras.layers.BatchNormalization):
        def _moments(self, inputs, axes, keep_dims):
            mean, variance = super()._moments(inputs, axes, keep_dims)
            return mean + 1.0, variance

    assert_refused(tf_kit, model_of(tf_kit, Own(name="own")), "own")


# Home-made layers


@pytest.mark.both_modes
def test_a_home_made_batch_norm_is_refused(kit):
    """Behind one of Keras's, although its moments are the same."""
    keras, layers = kit.keras, kit.keras.layers
    inputs, own = keras.Input((FEATURES,)), home_made(kit)
    hidden = layers.BatchNormalization()(inputs)
    model = keras.Model(inputs, layers.Dense(1)(own(hidden)))
    model.compile("sgd", "mse")
    assert_refused(kit, model, "own")
    with refused("batch-norm layer 'own' must be Keras's"):
        kit.update_bn(model, rows()[0])


@pytest.mark.both_modes
def test_the_remedy_for_a_home_made_batch_norm_works(kit):
    """Frozen before `compile`, it is left alone; Keras's own layer is averaged."""
    own = home_made(kit)
    own.trainable = False
    model, swa = model_of(kit, own), kit.SWA(2)
    train(model, swa)
    assert swa.n_averaged and swa.batch_norm_epoch is None
    norm = kit.keras.layers.BatchNormalization()
    train(model_of(kit, norm), kit.SWA(2))
    assert_statistics(kit, norm, rows()[0])


# Conditions


@pytest.mark.both_modes
@pytest.mark.parametrize(
    "training, shape", [("phase", FUSED), ("always", UNFUSED), ("version 2", FUSED)]
)
def test_keras_own_learning_phase(tf_kit, training, shape):
    import tensorflow as tf

    layers = tf_kit.keras.layers
    kind = layers.BatchNormalization
    if training == "version 2":
        kind = tf.compat.v2.keras.layers.BatchNormalization
    norm, data = kind(), rows(shape)
    phase = tf_kit.keras.backend.learning_phase()  # in eager mode 0, in version 2 too
    options = {"always": {"training": True}}
    if not tf_kit.is_eager:
        options["phase"] = {"training": phase}
    inputs = tf_kit.keras.Input(shape)
    outputs = layers.Flatten()(norm(inputs, **options.get(training, {})))
    model = tf_kit.keras.Model(inputs, layers.Dense(1)(outputs))
    model.compile("sgd", "mse")
    swa = tf_kit.SWA(2)
    train(model, swa, data=data)
    assert swa.batch_norm_epoch == EPOCHS
    assert_statistics(tf_kit, norm, data[0])


@pytest.mark.both_modes
def test_a_learning_phase_fixed_before_the_model_is_built(kit):
    kit.keras.backend.set_learning_phase(1)
    norm = kit.keras.layers.BatchNormalization()
    model = model_of(kit, norm)
    train(model, kit.SWA(2))
    assert_statistics(kit, norm, rows()[0])
    kit.update_bn(model, rows()[0] * 2)
    assert_statistics(kit, norm, rows()[0] * 2)


@pytest.mark.parametrize("shape", [UNFUSED, FUSED], ids=["unfused", "fused"])
def test_a_phase_fixed_after_the_model_was_built_freezes_the_statistics(tf_kit, shape):
    """As in plain training, which does not feed the phase then; `apply` does."""
    norm, (x, y) = tf_kit.keras.layers.BatchNormalization(), rows(shape)
    model, swa = model_of(tf_kit, norm, shape), tf_kit.SWA(2)
    train(model, swa, data=(x, y))
    tf_kit.keras.backend.set_learning_phase(0)
    swa.apply(x + 2)
    assert_statistics(tf_kit, norm, x + 2)
    before = statistics(tf_kit, norm)
    train(model, swa, data=(x, y))
    assert swa.batch_norm_epoch is None
    for array, expected in zip(statistics(tf_kit, norm), before):
        np.testing.assert_allclose(array, expected, rtol=1e-6)


def flags(kit):
    """Ways to say when a layer trains, which SWA cannot know before a batch."""
    import tensorflow as tf

    phase = tf.cast(kit.keras.backend.learning_phase(), "bool")
    flag = kit.keras.backend.variable(True, dtype="bool")
    return {
        "variable": lambda: flag,
        "with the phase": lambda: tf.logical_and(phase, flag),
        "placeholder": lambda: tf.compat.v1.placeholder_with_default(True, ()),
        "against the phase": lambda: tf.logical_not(phase),
    }


FLAGS = [
    ("variable", UNFUSED),
    ("with the phase", FUSED),
    ("placeholder", FUSED),
    ("against the phase", UNFUSED),
]


@pytest.mark.parametrize("name, shape", FLAGS)
def test_a_flag_of_the_users_own_is_refused_in_graph_mode(tf_kit, name, shape):
    flag = flags(tf_kit)[name]()
    norm = tf_kit.keras.layers.BatchNormalization(name="flagged")
    model = model_of(tf_kit, lambda inputs: norm(inputs, training=flag), shape)
    assert_refused(tf_kit, model, "flagged", rows(shape))


def test_a_layer_called_in_a_branch_of_the_users_own_is_refused(tf_kit):
    import tensorflow as tf

    norm = tf_kit.keras.layers.BatchNormalization(name="flagged")
    norm.build((None, FEATURES))
    flag = tf_kit.keras.backend.variable(True, dtype="bool")

    class Branch(tf_kit.keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm = norm

        def call(self, inputs):
            return tf.cond(flag, lambda: self.norm(inputs), lambda: inputs)

    branch = Branch()
    model = model_of(tf_kit, lambda inputs: branch(inputs))
    before = statistics(tf_kit, norm)
    with refused("batch-norm layer 'flagged' must"):
        train(model, tf_kit.SWA(2))
    assert equal(statistics(tf_kit, norm), before)


# Functions


def test_control_flow_v2_is_refused_by_name(tf_kit):
    import tensorflow as tf

    tf.compat.v1.enable_control_flow_v2()
    try:
        model = model_of(tf_kit, tf_kit.keras.layers.BatchNormalization(name="v2"))
        with refused("batch-norm layer 'v2' .* got a .*If"):
            train(model, tf_kit.SWA(2))
        with refused("batch-norm layer 'v2' .* got a .*If"):
            tf_kit.update_bn(model, rows()[0])
    finally:
        tf.compat.v1.disable_control_flow_v2()


def recurrent(kit, unroll):
    """(cell, compiled model, (x, y)) of an RNN over four time steps."""
    keras, layers = kit.keras, kit.keras.layers
    cell, inputs = recurrent_cell(kit), keras.Input((4, 2))
    outputs = layers.Dense(1)(layers.RNN(cell, unroll=unroll)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.001), "mse")
    return cell, model, rows((4, 2))


def assert_cell_is_right(tf_kit, unroll):
    cell, model, (x, y) = recurrent(tf_kit, unroll)
    swa = tf_kit.SWA(2)
    train(model, swa, data=(x, y))
    assert swa.batch_norm_epoch == EPOCHS

    def hidden(x):
        kernel, bias = cell.inner.get_weights()
        return np.float64(x) @ kernel + bias

    assert_statistics(tf_kit, cell.norm, hidden(x))
    tf_kit.update_bn(model, x * 2)
    assert_statistics(tf_kit, cell.norm, hidden(x * 2))
    assert model.layers[1].unroll == unroll


@pytest.mark.both_modes
def test_batch_norm_in_the_cell_of_an_unrolled_rnn(tf_kit):
    assert_cell_is_right(tf_kit, unroll=True)


@pytest.mark.only_eager("trains it, because in graph mode Keras itself fails")
def test_batch_norm_in_the_cell_of_a_rolled_rnn(tf_kit):
    assert_cell_is_right(tf_kit, unroll=False)


@pytest.mark.only_eager("calls the cell of such a layer once more")
def test_batch_norm_in_the_cell_of_a_layer_that_never_unrolls_is_refused(tf_kit):
    class Own(tf_kit.keras.layers.RNN):
        def call(self, inputs, **options):
            return super().call(inputs, **options)

    inputs = tf_kit.keras.Input((4, 2))
    outputs = tf_kit.keras.layers.Dense(1)(Own(recurrent_cell(tf_kit))(inputs))
    model = tf_kit.keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    assert_refused(tf_kit, model, "within", rows((4, 2)))


def test_batch_norm_in_the_cell_of_an_rnn_that_graph_mode_rolls_is_refused(tf_kit):
    _, model, data = recurrent(tf_kit, unroll=False)
    with refused("batch-norm layer 'within' must"):
        train(model, tf_kit.SWA(2), data=data)


def stand_alone(kit):
    if kit.name != "keras":
        pytest.skip("only graph mode has stand-alone Keras")


def test_batch_norm_that_stand_alone_keras_never_updates_is_refused(kit):
    stand_alone(kit)
    _, model, data = recurrent(kit, unroll=True)
    assert_refused(kit, model, "within", data)
    model = model_of(kit, of_some_rows(kit))
    assert_refused(kit, model, "some")
    with refused("batch-norm layer 'some' must be called by"):
        kit.update_bn(model, rows()[0])
    model.layers[1].trainable = False
    model.compile("sgd", "mse")
    swa = kit.SWA(2)
    train(model, swa)
    assert swa.n_averaged and swa.batch_norm_epoch is None


# What else a model holds


def two_in_a_row(kit):
    layers = kit.keras.layers
    model = kit.keras.Sequential(
        [
            layers.Dense(5, input_shape=(FEATURES,)),
            layers.BatchNormalization(name="first"),
            layers.Dense(4),
            layers.BatchNormalization(name="second"),
            layers.Dense(1),
        ]
    )
    model.compile(kit.keras.optimizers.SGD(0.01), "mse")
    return model


def test_a_phase_fixed_at_0_after_training_is_no_phase_for_update_bn(kit):
    """Each layer would see what the one before it computes in inference mode."""
    model, x = two_in_a_row(kit), rows()[0]
    train(model, epochs=1)
    kit.keras.backend.set_learning_phase(0)
    before = model.get_weights()
    with refused("in training mode, got '.*' does"):
        kit.update_bn(model, x)
    assert equal(model.get_weights(), before)


def test_a_phase_fixed_at_0_where_keras_updates_nonetheless_is_refused(kit):
    stand_alone(kit)
    model = two_in_a_row(kit)
    train(model, epochs=1)
    kit.keras.backend.set_learning_phase(0)
    before = model.get_weights()
    with refused("in training mode, got '.*' does"):
        train(model, kit.SWA(2))
    assert equal(model.get_weights(), before)


@pytest.mark.both_modes
def test_a_model_that_lists_a_weight_twice_is_restored(kit):
    """One encoder in two nested models: `get_weights()` has its weights twice."""
    keras, layers = kit.keras, kit.keras.layers
    dense, norm = layers.Dense(4, input_shape=(FEATURES,)), layers.BatchNormalization()
    encoder, heads = keras.Sequential([dense, norm]), []
    for units in (3, 1):
        inputs = keras.Input((FEATURES,))
        heads.append(keras.Model(inputs, layers.Dense(units)(encoder(inputs))))
    inputs = keras.Input((FEATURES,))
    model = keras.Model(inputs, [head(inputs) for head in heads])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    assert len(model.get_weights()) == 16
    x, y = rows()
    swa, trained = kit.SWA(2), []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: trained.append(model.get_weights())
    )
    train(model, swa, note, data=(x, [x[:, :3], y]))
    kernel, bias = dense.get_weights()
    assert_statistics(kit, norm, np.float64(x) @ kernel + bias)
    swa.restore()
    assert equal(model.get_weights(), trained[EPOCHS - 2])


@pytest.mark.both_modes
def test_arrays_in_attributes_with_the_names_of_layers_are_no_fault(kit):
    class Scale(kit.keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.cell = self.cells = self.layer = self.layers = np.ones((2, 2))

        def call(self, inputs):
            return inputs * 2.0

        def compute_output_shape(self, shape):
            return shape

    norm, scale = kit.keras.layers.BatchNormalization(), Scale()
    model = model_of(kit, lambda inputs: norm(scale(inputs)))
    train(model, kit.SWA(2))
    assert_statistics(kit, norm, rows()[0] * 2)


@pytest.mark.both_modes
def test_forward_passes_change_no_weight_of_a_users_layer(kit):
    backend = kit.keras.backend

    class Calls(kit.keras.layers.Layer):
        def build(self, shape):
            self.count = self.add_weight(
                name="count",
                shape=(),
                dtype="int64",
                initializer="zeros",
                trainable=False,
            )
            super().build(shape)

        def call(self, inputs):
            if kit.is_eager:
                self.add_update(lambda: self.count.assign_add(1))
            else:
                self.add_update([backend.update_add(self.count, 1)], inputs)
            return inputs * 1.0

        def compute_output_shape(self, shape):
            return shape

    norm, calls, (x, _) = kit.keras.layers.BatchNormalization(), Calls(), rows()
    model, swa = model_of(kit, lambda inputs: norm(calls(inputs))), kit.SWA(2)
    train(model, swa)
    count = backend.get_value(calls.count)
    assert count > 0
    kit.update_bn(model, x * 2)
    assert_statistics(kit, norm, x * 2)
    assert backend.get_value(calls.count) == count
    with swa.average_applied(x * 3):
        assert_statistics(kit, norm, x * 3)
        assert backend.get_value(calls.count) == count
    swa.apply(x * 4)
    assert_statistics(kit, norm, x * 4)
    assert backend.get_value(calls.count) == count


# Statistics that SWA does not know


@pytest.mark.both_modes
def test_statistics_of_an_unknown_rule_are_named_in_one_warning(kit):
    layer, norm = renormalization(kit), kit.keras.layers.BatchNormalization()
    model = model_of(kit, lambda inputs: layer(norm(inputs)))
    names = "renorm_running_mean.*renorm_moving_scale"
    for call in (
        lambda: train(model, kit.SWA(2)),
        lambda: kit.update_bn(model, rows()[0]),
    ):
        with pytest.warns(RuntimeWarning) as record:
            call()
        messages = [str(warning.message) for warning in record]
        (message,) = [text for text in messages if "cannot be re-estimated" in text]
        assert re.search(names, message) and "counter" not in message
    assert_statistics(kit, norm, rows()[0])


@pytest.mark.both_modes
def test_frozen_statistics_of_an_unknown_rule_need_no_warning(kit):
    layer, norm = renormalization(kit), kit.keras.layers.BatchNormalization()
    layer.trainable = False
    model = model_of(kit, lambda inputs: layer(norm(inputs)))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "SWA:")
        train(model, kit.SWA(2))
        kit.update_bn(model, rows()[0])


# What a device hands over


def test_a_variance_that_a_device_rounds_below_zero_is_zero(tf_kit):
    from swa.batch_norm import Statistics

    norm = tf_kit.keras.layers.BatchNormalization()
    model_of(tf_kit, norm)
    merged = Statistics([norm])
    for _ in range(2):
        merged.add(norm, 4, [2.0] * FEATURES, [-1e-3] * FEATURES, is_unbiased=False)
    weights = norm.weights
    arrays = merged.with_statistics([None] * len(weights), weights)
    np.testing.assert_array_equal(arrays[2], 2.0)
    np.testing.assert_array_equal(arrays[3], 0.0)
    merged.add(norm, 4, [2.0] * FEATURES, [np.nan] * FEATURES, is_unbiased=False)
    assert merged.non_finite_layers() == [norm]
