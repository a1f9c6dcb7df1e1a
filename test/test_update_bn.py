# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""`update_bn`: what it changes and leaves, how exact it is, ranks; rows: test_rows."""

import numpy as np
import pytest
from support.callback_kit import (
    BATCHES,
    FEATURES,
    ROWS,
    assert_moments,
    assert_statistics,
    both_modes,
    build,
    compiled,
    data,
    equal,
    fit,
    handed_on,
    new_models,
    on_two_ranks,
    recorder,
    refused,
    two_inputs,
    used_models,
)

pytestmark = used_models


@both_modes
def test_weights_set_by_hand_get_statistics_and_nothing_else_changes(kit):
    model = build(kit)
    x = data()[0]
    generator = np.random.RandomState(9)
    before = [generator.rand(*weight.shape) for weight in model.get_weights()]
    model.set_weights(before)
    before = model.get_weights()
    kit.update_bn(model, x, batch_size=7)
    after = model.get_weights()
    assert_statistics(after, x)
    assert equal(after[:4] + after[6:], before[:4] + before[6:])


@new_models
@both_modes
def test_a_layer_that_counts_its_calls_keeps_its_count(kit):
    backend = kit.keras.backend

    class Counter(kit.keras.layers.Layer):
        def build(self, shape):
            options = dict(shape=(), dtype="int64", initializer="zeros")
            self.calls = self.add_weight("calls", trainable=False, **options)
            super().build(shape)

        def call(self, inputs):
            if kit.is_eager:
                self.add_update(lambda: self.calls.assign_add(1))
            else:
                self.add_update([backend.update_add(self.calls, 1)], inputs)
            return inputs + 0.0

        def compute_output_shape(self, shape):
            return shape

    counter = Counter()
    norm = kit.keras.layers.BatchNormalization()
    inputs = kit.keras.layers.Input((FEATURES,))
    model = compiled(kit, inputs, kit.keras.layers.Dense(1)(counter(norm(inputs))))
    x = data()[0]
    fit(model, rows=(x, x[:, :1]), epochs=1)
    before = model.get_weights()
    kit.update_bn(model, x, batch_size=7)
    assert_moments(norm, x)
    assert equal(counter.get_weights(), [BATCHES])
    assert equal(model.get_weights()[4:], before[4:])


@both_modes
def test_a_loaded_model_gets_statistics(kit, tmp_path):
    path = str(tmp_path / "model.h5")
    x = data()[0]
    build(kit).save(path)
    model = kit.keras.models.load_model(path, compile=False)
    kit.update_bn(model, x)
    assert_statistics(model.get_weights(), x)


@both_modes
def test_a_model_without_batch_norm_stays_as_it_is(tf_kit):
    model = build(tf_kit, False)
    before = model.get_weights()
    tf_kit.update_bn(model, data()[0])
    assert equal(model.get_weights(), before)


def test_the_batch_size_is_checked(kit):
    with refused("batch_size must be.*got 0"):
        kit.update_bn(build(kit), data()[0], batch_size=0)


# What it leaves behind


@handed_on
def norm_and_dropout(kit, learning_rate=0.0):
    layers = kit.keras.layers
    norm = layers.BatchNormalization(momentum=0.75, input_shape=(FEATURES,))
    model = kit.keras.Sequential([norm, layers.Dropout(0.5, seed=1), layers.Dense(1)])
    model.compile(kit.keras.optimizers.SGD(learning_rate), "mse")
    return model, norm


@both_modes
def test_a_later_fit_mixes_its_batches_in_by_the_layers_momentum(kit):
    model, norm = norm_and_dropout(kit)
    x = data()[0]
    shifted = data()[0] * 2 + 1
    kit.update_bn(model, x)
    fit(model, rows=(shifted, shifted[:, :1]), epochs=1, batch_size=25)
    assert norm.momentum == 0.75
    mean = np.float64(x).mean(0)
    for batch in (shifted[:25], shifted[25:]):
        mean = 0.75 * mean + 0.25 * np.float64(batch).mean(0)
    np.testing.assert_allclose(norm.get_weights()[2], mean, rtol=1e-5, atol=1e-6)


@both_modes
def test_a_later_fit_trains(kit):
    model, norm = norm_and_dropout(kit, 0.1)
    x = data()[0]
    before = model.get_weights()
    kit.update_bn(model, x)
    fit(model, rows=(x, x[:, :1]), epochs=1)
    trained = [0, 1, 4, 5]  # scale, centre, kernel and bias
    assert not any(
        np.array_equal(model.get_weights()[index], before[index]) for index in trained
    )


@both_modes
def test_the_mode_is_left_as_it_was(kit):
    model, norm = norm_and_dropout(kit)
    x = data()[0]
    phase = kit.keras.backend.learning_phase()
    trainable = norm.trainable
    kit.update_bn(model, x)
    assert kit.keras.backend.learning_phase() is phase or phase == 0
    assert norm.trainable == trainable
    # not in training: no dropout, and the statistics are used, not moved
    before = norm.get_weights()
    np.testing.assert_array_equal(model.predict(x), model.predict(x))
    assert equal(norm.get_weights(), before)


@new_models
@both_modes
def test_the_learning_phase_is_not_set_where_it_was_not(tf_kit):
    from tensorflow.python.keras import backend

    was_set = backend.global_learning_phase_is_set()
    tf_kit.update_bn(build(tf_kit), data()[0])
    assert backend.global_learning_phase_is_set() == was_set


@both_modes
def test_after_a_fit_the_trained_weights_are_still_at_hand(kit):
    model = build(kit)
    swa = kit.SWA(2)
    seen = recorder(kit)
    fit(model, swa, seen)
    kit.update_bn(model, data()[0][:40])
    moved = model.get_weights()
    swa.restore()  # what the user has changed stays
    assert equal(model.get_weights(), moved)
    with swa.trained_weights():
        assert equal(model.get_weights(), seen.weights[2])


# Layers that it leaves alone


@new_models
@both_modes
def test_the_flags_of_now_decide(kit):
    model = build(kit)
    x = data()[0]
    norm = model.layers[1]
    kit.update_bn(model, x + 1)
    norm.trainable = False
    still = norm.get_weights()
    kit.update_bn(model, x * 5)
    assert equal(norm.get_weights(), still)
    norm.trainable = True
    kit.update_bn(model, x)
    assert_statistics(model.get_weights(), x)


@new_models
@both_modes
def test_a_frozen_model_within_another_stays_as_it_is(kit):
    inner = build(kit)
    model = kit.keras.Sequential([inner, kit.keras.layers.Dense(1)])
    inner.trainable = False
    before = inner.get_weights()
    kit.update_bn(model, data()[0])
    assert equal(inner.get_weights(), before)


@new_models
@both_modes
def test_a_layer_called_for_inference_stays_as_it_is(kit):
    inputs = kit.keras.Input((FEATURES,))
    norm = kit.keras.layers.BatchNormalization()
    model = kit.keras.Model(inputs, norm(inputs, training=False))
    before = norm.get_weights()
    kit.update_bn(model, data()[0])
    assert equal(norm.get_weights(), before)


def idle(kit, name):
    """A model whose batch norm has no updates, or none that run, and what helps."""
    keras = kit.keras
    layers = kit.keras.layers
    if name == "subclassed":

        class Model(keras.Model):
            def __init__(self):
                super().__init__()
                self.norm = layers.BatchNormalization()

            def call(self, inputs, training=None):
                return self.norm(inputs, training=training)

        model = Model()
        model.build((None, FEATURES))
        return model, model.norm, lambda: model.predict(data()[0])
    if name == "phase":
        keras.backend.set_learning_phase(0)
    norm = layers.BatchNormalization()
    inputs = keras.Input((FEATURES,))
    model = keras.Model(inputs, norm(inputs))
    if name == "later phase":
        keras.backend.set_learning_phase(0)
    return model, norm, None


@new_models
@pytest.mark.parametrize("name", ["subclassed", "phase", "later phase"])
def test_a_model_that_would_stay_as_it_is_is_refused(tf_kit, name):
    """In graph mode, which alone has updates that may be missing."""
    model, norm, helps = idle(tf_kit, name)
    x = data()[0] + 3
    before = norm.get_weights()
    with refused("in training mode, got '.*' does"):
        tf_kit.update_bn(model, x)
    assert equal(norm.get_weights(), before)
    if helps is not None:
        helps()
        tf_kit.update_bn(model, x)
        np.testing.assert_allclose(norm.get_weights()[2], x.mean(0), rtol=1e-5)
    norm.trainable = False
    before = norm.get_weights()
    tf_kit.update_bn(model, x * 2)
    assert equal(norm.get_weights(), before)


# How exact it is


@both_modes
def test_uneven_batches_far_from_zero_are_merged_exactly(kit):
    model, norms = two_inputs(kit)
    rows = [data(1)[0] + 30, (data(2)[0] + 2) * 5 + 30]
    ends = [0, 1, 31, 33, ROWS]
    batches = [[x[start:end] for x in rows] for start, end in zip(ends, ends[1:])]
    kit.update_bn(model, iter(batches))
    for norm, x in zip(norms, rows):
        assert_moments(norm, x)


def norm_alone(kit, shape, **options):
    layers = kit.keras.layers
    norm = layers.BatchNormalization(input_shape=shape, **options)
    model = kit.keras.Sequential([norm, layers.Dense(1)])
    model.compile("sgd", "mse")
    return model, norm


@new_models
@both_modes
def test_a_mean_of_a_thousand_deviations_loses_nothing(kit):
    model, norm = norm_alone(kit, (FEATURES,))
    x = np.random.RandomState(5).randn(4096, FEATURES).astype("float32") + 1000
    kit.update_bn(model, x)
    mean, variance = norm.get_weights()[2:]
    # a float32 holds a mean of 1000 to 3e-5, and so does each batch's
    np.testing.assert_allclose(mean, np.float64(x).mean(0), rtol=0, atol=6e-5)
    np.testing.assert_allclose(variance, np.float64(x).var(0), rtol=1e-5)
    kit.update_bn(model, x - 1000)
    mean, variance = norm.get_weights()[2:]
    np.testing.assert_allclose(mean, np.float64(x).mean(0) - 1000, rtol=0, atol=1e-6)
    np.testing.assert_allclose(variance, np.float64(x).var(0), rtol=1e-6)


# Several ranks


@both_modes
def test_the_rows_of_all_ranks_are_merged(kit):
    model = build(kit)
    x = data()[0]
    parts = x[:13], x[13:]  # of unequal size
    weights = {}

    def work(rank, ranks):
        kit.update_bn(model, parts[rank], batch_size=7, ranks=ranks)
        weights[rank] = model.get_weights()

    assert on_two_ranks(work) > 0
    assert equal(weights[0], weights[1])
    assert_statistics(weights[0], x)


@new_models
def test_ranks_are_merged_without_loss_far_from_zero(tf_kit):
    model, norm = norm_alone(tf_kit, (FEATURES,))
    generator = np.random.RandomState(3)
    parts = [
        generator.normal(mean, 0.5, (400, FEATURES)).astype("float32")
        for mean in (100, 100.1)
    ]
    on_two_ranks(lambda rank, ranks: tf_kit.update_bn(model, parts[rank], 100, ranks))
    rows = np.float64(np.concatenate(parts))
    mean, variance = norm.get_weights()[2:]
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-6)
    # rtol: deviations from a float32 mean of 100 are good to 8e-6 / 0.5
    np.testing.assert_allclose(variance, rows.var(0), rtol=1e-4)


@new_models
def test_more_values_than_float32_can_count_are_merged(tf_kit):
    side = 2048  # five images have 21 million values; 2^24 are 17 million
    # the fused kernel itself loses 0.35 % of the variance of so large a batch
    model, norm = norm_alone(tf_kit, (side, side, 1), fused=False)
    images = np.random.RandomState(4).normal(3, 2, (1, side, side, 1)).astype("f4")
    batches = [images] * 3, [images + 1] * 2

    def work(rank, ranks):
        tf_kit.update_bn(model, iter(batches[rank]), ranks=ranks.sum)

    on_two_ranks(work)
    mean = images.mean(dtype="f8")
    variance = images.var(dtype="f8")
    # two of five images are one higher: the mean by 2/5, the variance by 2/5 * 3/5
    np.testing.assert_allclose(norm.get_weights()[2], [mean + 0.4], rtol=1e-5)
    np.testing.assert_allclose(norm.get_weights()[3], [variance + 0.24], rtol=1e-5)
