# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Every kind of model and optimizer: the average, and the statistics of each layer.

The table of models: support/models.py. That of optimizers: `OPTIMIZERS` below.
"""

import numpy as np
import pytest
from support.callback_kit import (
    CLASSES,
    CYCLIC,
    EPSILON,
    FEATURES,
    ROWS,
    SAMPLED,
    assert_averaged,
    assert_moments,
    assert_rates,
    at,
    both_modes,
    build,
    compiled,
    data,
    equal,
    fit,
    only_eager,
    recorder,
    refused,
)
from support.models import (
    MODELS,
    TF_MODELS,
    in_function,
    in_parallel,
    several_inputs_and_outputs,
    subclassed,
)


def assert_statistics_of(case):
    for layer, batches in case.inputs():
        assert_moments(layer, np.concatenate(batches))


def assert_works(kit, case):
    """In `fit` with SWA, and then in `update_bn`."""
    seen = recorder(kit)
    rows = case.x, case.y
    fit(case.model, kit.SWA(2), seen, rows=rows, batch_size=case.batch_size)
    assert_averaged(case.model, seen.weights[SAMPLED])
    assert_statistics_of(case)
    assert equal(seen.slots[-1], seen.slots[-2])
    for layer, _ in case.inputs():
        weights = layer.get_weights()
        statistics = [statistic + 7 for statistic in weights[-2:]]
        layer.set_weights(weights[:-2] + statistics)
    kit.update_bn(case.model, case.x, batch_size=case.batch_size)
    assert_statistics_of(case)


@both_modes
@pytest.mark.parametrize("name", MODELS)
def test_every_model_gets_the_average_and_its_statistics(kit, name):
    assert_works(kit, MODELS[name](kit))


@both_modes
@pytest.mark.parametrize("name", TF_MODELS)
def test_every_model_of_tf_keras_does_too(tf_kit, name):
    assert_works(tf_kit, TF_MODELS[name](tf_kit))


@both_modes
def test_a_subclassed_model_trains_at_the_planned_rates(tf_kit):
    case = subclassed(tf_kit)
    swa = tf_kit.SWA(*CYCLIC)
    seen = recorder(tf_kit)
    fit(case.model, swa, seen, epochs=5)
    assert_statistics_of(case)
    assert_rates(seen.rates, swa, 5)


@both_modes
def test_dropout_drops_in_the_batch_norm_epoch(kit):
    layers = kit.keras.layers
    inputs = layers.Input((FEATURES,))
    norm = layers.BatchNormalization()
    dropped = layers.Dropout(0.5, seed=1)(inputs)
    model = compiled(kit, inputs, layers.Dense(1)(norm(dropped)))
    x = np.ones((ROWS, FEATURES), "float32")
    fit(model, kit.SWA(2), rows=(x, x[:, :1]))
    mean, variance = norm.get_weights()[2:]
    # each value is 0 or 2, so half the mean is the share that was kept
    kept = mean / 2 * ROWS
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-4)
    np.testing.assert_allclose(variance, mean * (2 - mean), rtol=1e-5)
    assert np.all(variance > 0.5)


# Layers that do not move their statistics


@both_modes
def test_frozen_layers_are_left_alone(kit):
    model, norms = in_parallel(kit, [{}, {}])
    for norm in norms:
        norm.set_weights([weight + 0.3 for weight in norm.get_weights()])
    norms[1].trainable = False
    model.compile(kit.keras.optimizers.SGD(0.05), "mse")
    still = norms[1].get_weights()
    x = data()[0]
    fit(model, kit.SWA(2), rows=(x, x[:, :1]))
    assert equal(norms[1].get_weights(), still)
    assert_moments(norms[0], x)
    kit.update_bn(model, x + 1)
    assert equal(norms[1].get_weights(), still)
    assert_moments(norms[0], x + 1)


@both_modes
def test_a_model_whose_batch_norm_is_all_frozen_needs_no_epoch_of_it(kit):
    model, norms = in_parallel(kit, [{"trainable": False}] * 2)
    x = data()[0]
    swa = kit.SWA(2)
    seen = recorder(kit)
    fit(model, swa, seen, rows=(x, x[:, :1]))
    assert (swa.n_averaged, swa.batch_norm_epoch) == (3, None)
    assert_averaged(model, seen.weights[1:])


@both_modes
@pytest.mark.parametrize("nested", [False, True], ids=["layer", "nested model"])
def test_a_layer_called_for_inference_keeps_its_statistics(tf_kit, nested):
    layers = tf_kit.keras.layers
    x = data()[0]
    inputs = layers.Input((FEATURES,))
    still = layers.BatchNormalization(input_shape=(FEATURES,))
    norm = layers.BatchNormalization()
    called = tf_kit.keras.Sequential([still]) if nested else still
    outputs = layers.Dense(1)(norm(called(inputs, training=False)))
    still.set_weights([weight + 0.5 for weight in still.get_weights()])
    model = compiled(tf_kit, inputs, outputs)
    seen = recorder(tf_kit)
    fit(model, tf_kit.SWA(2), seen, rows=(x, x[:, :1]))
    assert_averaged(model, seen.weights[SAMPLED])
    gamma, beta, mean, variance = [np.float64(w) for w in still.get_weights()]
    np.testing.assert_array_equal(mean, 0.5)
    np.testing.assert_array_equal(variance, 1.5)
    assert_moments(norm, (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta)


@both_modes
def test_a_subclass_that_stays_in_inference_keeps_its_statistics(tf_kit):
    layers = tf_kit.keras.layers

    class Frozen(layers.BatchNormalization):
        def call(self, inputs, training=None):
            return super().call(inputs, training=False)

    frozen = Frozen(input_shape=(FEATURES,))
    norm = layers.BatchNormalization()
    model = tf_kit.keras.Sequential([frozen, layers.Dense(1), norm, layers.Dense(1)])
    model.compile("sgd", "mse")
    x = data()[0] + 5
    fit(model, tf_kit.SWA(2), rows=(x, x[:, :1]))
    np.testing.assert_array_equal(frozen.get_weights()[2], 0.0)
    np.testing.assert_array_equal(frozen.get_weights()[3], 1.0)


@both_modes
def test_the_settings_of_all_layers_are_unchanged(kit):
    model, norms = in_parallel(kit, [{}, {"momentum": 0.5}])
    norms[0].trainable = False
    model.compile(kit.keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    x = data()[0]
    rows = x, x[:, :1]
    fit(model, rows=rows, epochs=1)
    owners = [model, model.optimizer] + model.layers

    def settings():
        own = [set(vars(owner)) for owner in owners]
        of_norms = [(norm.momentum, norm.trainable) for norm in norms]
        return own, of_norms, model.get_config(), model.stop_training

    before = settings()
    fit(model, kit.SWA(2), rows=rows)
    assert settings() == before


# Flags changed between two fits, or after compile


@both_modes
@pytest.mark.parametrize("first", [False, True], ids=["unfrozen", "frozen"])
def test_a_layer_frozen_or_unfrozen_between_two_fits(kit, first):
    model = build(kit)
    swa = kit.SWA(2)
    x = data()[0]
    norm = model.layers[1]
    optimizer = model.optimizer
    for trainable in (first, not first):
        norm.trainable = trainable
        model.compile(optimizer, "sparse_categorical_crossentropy")
        still = norm.get_weights()[2:]
        seen = recorder(kit)
        fit(model, swa, seen)
        assert swa.batch_norm_epoch == (4 if trainable else None)
        if trainable:
            assert_averaged(model, seen.weights[SAMPLED], x)
        else:
            assert equal(norm.get_weights()[2:], still)


@both_modes
def test_flags_changed_after_compile_as_in_every_gan(tf_kit):
    layers = tf_kit.keras.layers
    model = build(tf_kit)
    seen = recorder(tf_kit)
    model.trainable = False  # for the generator's model, which holds it
    noise = tf_kit.keras.Input((FEATURES,))
    gan = tf_kit.keras.Model(noise, model(layers.Dense(FEATURES)(noise)))
    gan.compile("sgd", "sparse_categorical_crossentropy")
    swa = tf_kit.SWA(2)
    fit(model, swa, seen)
    assert swa.batch_norm_epoch == 4  # `fit` trains what was compiled
    assert_averaged(model, seen.weights[SAMPLED], data()[0])


@both_modes
@pytest.mark.filterwarnings("ignore:Discrepancy between trainable weights")  # Keras's
def test_a_layer_frozen_after_compile_is_trained_as_keras_trains_it(kit):
    model = build(kit)
    plain = build(kit)
    swa = kit.SWA(2)
    model.layers[1].trainable = plain.layers[1].trainable = False
    still = plain.layers[1].get_weights()[2:]
    seen = recorder(kit)
    fit(plain)
    fit(model, swa, seen)
    is_trained = not equal(plain.layers[1].get_weights()[2:], still)
    assert is_trained == (swa.batch_norm_epoch is not None)
    if is_trained:
        assert_averaged(model, seen.weights[SAMPLED], data()[0])


# Optimizers

OPTIMIZERS = "RMSprop Adagrad Adadelta Adamax Nadam".split()
# eager mode's own part, the rate and the updates left out, is the same for all
OPTIMIZERS += [pytest.param(name, marks=both_modes) for name in ("SGD", "Adam")]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_averages_and_keeps_still_in_the_batch_norm_epoch(kit, name):
    optimizer = getattr(kit.keras.optimizers, name)(learning_rate=0.05)
    model = build(kit, optimizer=optimizer)
    seen = recorder(kit)
    fit(model, kit.SWA(2, "cyclic", 0.01, 0.02, 2), seen)
    assert_averaged(model, seen.weights[1:2], data()[0])
    assert equal(seen.slots[-1], seen.slots[-2])
    assert not equal(seen.slots[-2], seen.slots[-3])


@both_modes
def test_an_optimizer_of_tf_train_is_for_manual_alone(kit):
    import tensorflow as tf

    optimizer = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    wrap = getattr(kit.keras.optimizers, "TFOptimizer", lambda bare: bare)
    # eager Keras takes one in its graph function alone, or run eagerly
    options = {"run_eagerly": True} if kit.is_eager else {}
    model = build(kit, optimizer=wrap(optimizer), **options)
    weights = []
    with refused("lr_schedule must be 'manual'"):
        fit(model, kit.SWA(2, "constant", 0.01))
    keep = at(kit, "on_epoch_end", lambda model: weights.append(model.get_weights()))
    fit(model, kit.SWA(2), keep)
    assert_averaged(model, weights[SAMPLED], data()[0])


# Eager mode: run eagerly, and layers within a `tf.function`


@only_eager("has run_eagerly")
@pytest.mark.parametrize("weights", [None, "class_weight", "sample_weight"])
def test_run_eagerly(tf_kit, weights):
    model = build(tf_kit, run_eagerly=True)
    swa = tf_kit.SWA(2)
    seen = recorder(tf_kit)
    options = {
        None: {},
        "class_weight": dict(class_weight={0: 0.0, 1: 1.0, 2: 9.0}),
        "sample_weight": dict(sample_weight=np.linspace(0, 9, ROWS)),
    }[weights]
    fit(model, swa, seen, **options)
    assert_averaged(model, seen.weights[SAMPLED], data()[0])


@only_eager("has run_eagerly")
def test_several_inputs_run_eagerly(tf_kit):
    assert_works(tf_kit, several_inputs_and_outputs(tf_kit, run_eagerly=True))


@only_eager("sees into it")
@pytest.mark.parametrize("where", ["model", "layer", "batch norm"])
def test_a_forward_pass_within_a_function_is_right(tf_kit, where):
    model = in_function(tf_kit, where)
    x = data()[0]
    swa = tf_kit.SWA(2, validation=(x, x[:, :1]), validation_rows=x)
    history = fit(model, swa, rows=(x, x[:, :1]))
    norm = next(w for w in model.weights if "moving_mean" in w.name)

    def assert_mean_is(rows):
        np.testing.assert_allclose(norm.numpy(), rows.mean(0), rtol=1e-5, atol=1e-6)

    assert_mean_is(x)
    final = model.evaluate(x, x[:, :1], verbose=0)
    assert history["swa_loss"][-1] == pytest.approx(final)
    with swa.average_applied(x + 1):
        assert_mean_is(x + 1)
    swa.apply(x + 2)
    assert_mean_is(x + 2)
    tf_kit.update_bn(model, x + 3)
    assert_mean_is(x + 3)


# A `tf.function` in graph mode


def test_a_function_that_training_does_not_run_is_no_concern(tf_kit):
    import tensorflow as tf

    model = build(tf_kit)
    x = data()[0]
    seen = recorder(tf_kit)
    tf.function(lambda rows: model(rows))(tf.constant(x))
    fit(model, tf_kit.SWA(2), seen)
    assert_averaged(model, seen.weights[SAMPLED], x)


# Inputs without a feature axis


def test_inputs_of_rank_one_get_no_axis(tf_kit):
    """Stand-alone Keras adds one in its own `fit`, and then cannot feed them."""
    keras = tf_kit.keras
    layers = tf_kit.keras.layers
    first = keras.Input(())
    second = keras.Input((1,))
    pair = layers.Lambda(lambda two: keras.backend.stack([two[0], two[1][:, 0]], 1))
    norm = layers.BatchNormalization()
    outputs = layers.Dense(CLASSES, activation="softmax")(norm(pair([first, second])))
    model = compiled(
        tf_kit, [first, second], outputs, "sparse_categorical_crossentropy"
    )
    x, y = data()
    rows = [x[:, 0], x[:, 1]]
    swa = tf_kit.SWA(2, validation=(rows, y), validation_rows=rows)
    fit(model, swa, rows=(rows, y))
    assert_moments(norm, x[:, :2])
    tf_kit.update_bn(model, [column + 1 for column in rows])
    assert_moments(norm, x[:, :2] + 1)
    swa.apply(rows)
    assert_moments(norm, x[:, :2])
