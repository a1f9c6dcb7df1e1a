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

ROWS, FEATURES, BATCH, EPOCHS = 50, 6, 16, 4


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


def train(model, callbacks, data=None, epochs=EPOCHS):
    x, y = data or rows()
    options = dict(batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0)
    return model.fit(x, y, callbacks=callbacks, **options)


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
    with pytest.raises(ValueError, match=f"batch-norm layer '{name}' must") as error:
        train(model, [kit.SWA(2)], data)
    assert "\n" not in str(error.value)
    for array, expected in zip(model.get_weights(), before):
        np.testing.assert_array_equal(array, expected)
    train(model, [], data, epochs=1)
    trained = zip(model.get_weights(), before)
    assert not all(np.array_equal(array, expected) for array, expected in trained)


# Subclasses


def as_mask_rcnn(kit):
    class BatchNorm(kit.keras.layers.BatchNormalization):
        def call(self, inputs, training=None):
            return super(self.__class__, self).call(inputs, training=training)

    return BatchNorm()


def by_name(kit):
    base = kit.keras.layers.BatchNormalization

    class Named(base):
        def call(self, x, training=None, **options):
            return base.call(self, x, training)

    return Named()


def without_call(kit):
    class Plain(kit.keras.layers.BatchNormalization):
        def build(self, shape):
            super().build(shape)

    return Plain()


def of_a_subclass(kit):
    class Outer(type(as_mask_rcnn(kit)).__mro__[1]):
        def call(self, inputs, training=None):
            return super().call(inputs, training=training)

    class Outest(Outer):
        pass

    return Outest()


HANDING_ON = [as_mask_rcnn, by_name, without_call, of_a_subclass]


@pytest.mark.both_modes
@pytest.mark.parametrize("shape", [(FEATURES,), (2, 2, 3)], ids=["unfused", "fused"])
@pytest.mark.parametrize("make", HANDING_ON, ids=lambda make: make.__name__)
def test_a_subclass_that_hands_its_inputs_on_is_right(kit, make, shape):
    norm, (x, y) = make(kit), rows(shape)
    model, swa = model_of(kit, norm, shape), kit.SWA(2)
    train(model, [swa], (x, y))
    assert swa.batch_norm_epoch == EPOCHS
    assert_statistics(kit, norm, x)
    kit.update_bn(model, x * 2)
    assert_statistics(kit, norm, x * 2)


def of_some_rows(kit):
    """A layer that normalises and learns from the first ten rows of a batch alone."""

    class Some(kit.keras.layers.BatchNormalization):
        def call(self, inputs, training=None):
            chosen = super().call(inputs[:10] + 2.0, training=training)
            return inputs + kit.keras.backend.mean(chosen)

    return Some(name="some")


@pytest.mark.both_modes
@pytest.mark.parametrize("shape", [(FEATURES,), (2, 2, 3)], ids=["unfused", "fused"])
def test_a_subclass_has_the_statistics_of_the_rows_that_it_hands_on(tf_kit, shape):
    norm, (x, y) = of_some_rows(tf_kit), rows(shape)
    train(model_of(tf_kit, norm, shape), [tf_kit.SWA(2)], (x, y))
    handed_on = [x[start : start + 10] + 2 for start in range(0, ROWS, BATCH)]
    assert_statistics(tf_kit, norm, np.concatenate(handed_on))


@pytest.mark.both_modes
def test_a_subclass_that_stays_in_inference_keeps_its_statistics(tf_kit):
    class Frozen(tf_kit.keras.layers.BatchNormalization):
        def call(self, inputs, training=None):
            return super().call(inputs, training=False)

    frozen, norm = Frozen(), tf_kit.keras.layers.BatchNormalization()
    inputs = tf_kit.keras.Input((FEATURES,))
    outputs = tf_kit.keras.layers.Dense(1)(norm(frozen(inputs)))
    model = tf_kit.keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    train(model, [tf_kit.SWA(2)])
    mean, variance = statistics(tf_kit, frozen)
    np.testing.assert_array_equal(mean, 0.0)
    np.testing.assert_array_equal(variance, 1.0)


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


def home_made(kit, moments):
    """A user's batch norm; `moments`: function of the inputs -> (mean, variance)."""
    import tensorflow as tf

    class Own(kit.keras.layers.Layer):
        def build(self, shape):
            options = dict(shape=(int(shape[-1]),), trainable=False)
            self.moving_mean = self.add_weight(
                name="moving_mean", initializer="zeros", **options
            )
            self.moving_variance = self.add_weight(
                name="moving_variance", initializer="ones", **options
            )
            super().build(shape)

        def call(self, inputs):
            mean, variance = moments(inputs)
            for variable, value in (
                (self.moving_mean, mean),
                (self.moving_variance, variance),
            ):
                step = (variable - value) * 0.1
                if kit.name == "keras":
                    self.add_update([tf.compat.v1.assign_sub(variable, step)], inputs)
                else:
                    self.add_update(
                        lambda v=variable, s=step: v.assign_sub(s),
                        inputs=None if kit.is_eager else True,
                    )
            return (inputs - mean) / tf.sqrt(variance + 1e-3)

        def compute_output_shape(self, shape):
            return shape

    return Own(name="own")


def plain_moments(inputs):
    import tensorflow as tf

    return tf.nn.moments(inputs, [0])


def by_sums(inputs):
    import tensorflow as tf

    count = tf.cast(tf.shape(inputs)[0], tf.float32)
    mean = tf.reduce_sum(inputs, 0) / count
    return mean, tf.reduce_sum(tf.square(inputs - mean), 0) / count


@pytest.mark.both_modes
@pytest.mark.parametrize("behind", [True, False], ids=["behind one", "alone"])
@pytest.mark.parametrize("moments", [plain_moments, by_sums])
def test_a_home_made_batch_norm_is_refused(kit, moments, behind):
    keras, layers = kit.keras, kit.keras.layers
    inputs, own = keras.Input((FEATURES,)), home_made(kit, moments)
    hidden = layers.BatchNormalization()(inputs) if behind else inputs
    model = keras.Model(inputs, layers.Dense(1)(own(hidden)))
    model.compile("sgd", "mse")
    assert_refused(kit, model, "own")
    with pytest.raises(ValueError, match="batch-norm layer 'own' must be Keras's"):
        kit.update_bn(model, rows()[0])


@pytest.mark.both_modes
def test_the_remedy_for_a_home_made_batch_norm_works(kit):
    """Frozen before `compile`, it is left alone; Keras's own layer is averaged."""
    own = home_made(kit, plain_moments)
    own.trainable = False
    model, swa = model_of(kit, own), kit.SWA(2)
    train(model, [swa])
    assert swa.n_averaged and swa.batch_norm_epoch is None
    norm = kit.keras.layers.BatchNormalization()
    train(model_of(kit, norm), [kit.SWA(2)])
    assert_statistics(kit, norm, rows()[0])


# Conditions


@pytest.mark.both_modes
@pytest.mark.parametrize("shape", [(FEATURES,), (2, 2, 3)], ids=["unfused", "fused"])
@pytest.mark.parametrize("training", ["phase", "always", "version 2"])
def test_keras_own_learning_phase(tf_kit, shape, training):
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
    train(model, [swa], data)
    assert swa.batch_norm_epoch == EPOCHS
    assert_statistics(tf_kit, norm, data[0])


@pytest.mark.both_modes
def test_a_learning_phase_fixed_before_the_model_is_built(kit):
    kit.keras.backend.set_learning_phase(1)
    norm = kit.keras.layers.BatchNormalization()
    model = model_of(kit, norm)
    train(model, [kit.SWA(2)])
    assert_statistics(kit, norm, rows()[0])
    kit.update_bn(model, rows()[0] * 2)
    assert_statistics(kit, norm, rows()[0] * 2)


@pytest.mark.parametrize("shape", [(FEATURES,), (2, 2, 3)], ids=["unfused", "fused"])
def test_a_phase_fixed_after_the_model_was_built_freezes_the_statistics(tf_kit, shape):
    """As in plain training, which does not feed the phase then; `apply` does."""
    norm, (x, y) = tf_kit.keras.layers.BatchNormalization(), rows(shape)
    model, swa = model_of(tf_kit, norm, shape), tf_kit.SWA(2)
    train(model, [swa], (x, y))
    tf_kit.keras.backend.set_learning_phase(0)
    swa.apply(x + 2)
    assert_statistics(tf_kit, norm, x + 2)
    before = statistics(tf_kit, norm)
    train(model, [swa], (x, y))
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


FLAGS = ["variable", "with the phase", "placeholder", "against the phase"]


@pytest.mark.parametrize("shape", [(FEATURES,), (2, 2, 3)], ids=["unfused", "fused"])
@pytest.mark.parametrize("name", FLAGS)
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
    with pytest.raises(ValueError, match="batch-norm layer 'flagged' must"):
        train(model, [tf_kit.SWA(2)])
    for array, expected in zip(statistics(tf_kit, norm), before):
        np.testing.assert_array_equal(array, expected)


# Functions


def test_control_flow_v2_is_refused_by_name(tf_kit):
    import tensorflow as tf

    tf.compat.v1.enable_control_flow_v2()
    try:
        model = model_of(tf_kit, tf_kit.keras.layers.BatchNormalization(name="v2"))
        with pytest.raises(ValueError, match="batch-norm layer 'v2' .* got a .*If"):
            train(model, [tf_kit.SWA(2)])
        with pytest.raises(ValueError, match="batch-norm layer 'v2' .* got a .*If"):
            tf_kit.update_bn(model, rows()[0])
    finally:
        tf.compat.v1.disable_control_flow_v2()


def recurrent_cell(kit):
    """A cell whose batch norm sees what a Dense layer computes."""
    layers = kit.keras.layers

    class Cell(layers.Layer):
        state_size = output_size = 3

        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(3)
            self.norm = layers.BatchNormalization(name="within")

        def build(self, shape):
            if kit.name == "keras":  # which builds no layer by itself here
                self.inner.build((None, int(shape[-1])))
                self.norm.build((None, 3))
            self.built = True

        def call(self, inputs, states, training=None):
            outputs = self.norm(self.inner(inputs), training=training)
            outputs = outputs + 0.3 * states[0]
            return outputs, [outputs]

    return Cell()


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
    train(model, [swa], (x, y))
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
    with pytest.raises(ValueError, match="batch-norm layer 'within' must"):
        train(model, [tf_kit.SWA(2)], data)


def stand_alone(kit):
    if kit.name != "keras":
        pytest.skip("only graph mode has stand-alone Keras")


def test_batch_norm_that_stand_alone_keras_never_updates_is_refused(kit):
    stand_alone(kit)
    _, model, data = recurrent(kit, unroll=True)
    assert_refused(kit, model, "within", data)
    model = model_of(kit, of_some_rows(kit))
    assert_refused(kit, model, "some")
    with pytest.raises(ValueError, match="batch-norm layer 'some' must be called by"):
        kit.update_bn(model, rows()[0])
    model.layers[1].trainable = False
    model.compile("sgd", "mse")
    swa = kit.SWA(2)
    train(model, [swa])
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
    train(model, [], epochs=1)
    kit.keras.backend.set_learning_phase(0)
    before = model.get_weights()
    with pytest.raises(ValueError, match="in training mode, got '.*' does") as error:
        kit.update_bn(model, x)
    assert "\n" not in str(error.value)
    for array, expected in zip(model.get_weights(), before):
        np.testing.assert_array_equal(array, expected)


def test_a_phase_fixed_at_0_where_keras_updates_nonetheless_is_refused(kit):
    stand_alone(kit)
    model = two_in_a_row(kit)
    train(model, [], epochs=1)
    kit.keras.backend.set_learning_phase(0)
    before = model.get_weights()
    with pytest.raises(ValueError, match="in training mode, got '.*' does"):
        train(model, [kit.SWA(2)])
    for array, expected in zip(model.get_weights(), before):
        np.testing.assert_array_equal(array, expected)


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
    train(model, [swa, note], (x, [x[:, :3], y]))
    kernel, bias = dense.get_weights()
    assert_statistics(kit, norm, np.float64(x) @ kernel + bias)
    swa.restore()
    for array, expected in zip(model.get_weights(), trained[EPOCHS - 2]):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.both_modes
@pytest.mark.parametrize("name", ["cell", "cells", "layer", "layers"])
def test_an_array_in_an_attribute_with_the_name_of_a_layers_is_no_fault(kit, name):
    class Scale(kit.keras.layers.Layer):
        def __init__(self):
            super().__init__()
            setattr(self, name, np.ones((2, 2)))

        def call(self, inputs):
            return inputs * 2.0

        def compute_output_shape(self, shape):
            return shape

    norm, scale = kit.keras.layers.BatchNormalization(), Scale()
    model = model_of(kit, lambda inputs: norm(scale(inputs)))
    train(model, [kit.SWA(2)])
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
    train(model, [swa])
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


def renormalization(kit):
    """A layer with statistics of another rule, as packages beside Keras have them."""

    class Renormalization(kit.keras.layers.Layer):
        def build(self, shape):
            for name in ("running_mean", "moving_scale", "counter"):
                weight = self.add_weight(
                    name=f"{self.name}_{name}",
                    shape=(int(shape[-1]),),
                    initializer="zeros",
                    trainable=False,
                )
                setattr(self, name, weight)
            super().build(shape)

        def call(self, inputs):
            return inputs - self.running_mean + self.moving_scale

        def compute_output_shape(self, shape):
            return shape

    return Renormalization(name="renorm")


@pytest.mark.both_modes
def test_statistics_of_an_unknown_rule_are_named_in_one_warning(kit):
    layer, norm = renormalization(kit), kit.keras.layers.BatchNormalization()
    model = model_of(kit, lambda inputs: layer(norm(inputs)))
    names = "renorm_running_mean.*renorm_moving_scale"
    for call in (
        lambda: train(model, [kit.SWA(2)]),
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
        train(model, [kit.SWA(2)])
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
