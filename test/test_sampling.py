# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Which weights are averaged and how: epochs, kinds of weights, many runs."""

import numpy as np
import pytest
from support.callback_kit import (
    BATCH,
    CLASSES,
    CYCLIC,
    FEATURES,
    ROWS,
    SAMPLED,
    assert_averaged,
    assert_mean,
    assert_moments,
    assert_rates,
    at,
    both_modes,
    build,
    compiled,
    data,
    equal,
    fit,
    interrupted,
    mean_of,
    new_models,
    rate_of,
    recorder,
    refused,
    spoil,
    statistics_of,
    twins,
    used_models,
)

pytestmark = used_models

# Which epochs


@both_modes
@pytest.mark.parametrize("swa_freq", [1, 2, 3])
def test_weights_become_the_mean_of_the_samples(kit, swa_freq):
    model = build(kit, False)
    seen = recorder(kit)
    swa = kit.SWA(3, swa_freq=swa_freq)
    fit(model, swa, seen, epochs=7, shuffle=True)
    sampled = seen.weights[2::swa_freq]
    assert swa.n_averaged == len(sampled)
    assert_mean(model.get_weights(), sampled)
    assert_mean(swa.averaged_weights, sampled)


@both_modes
def test_after_each_epoch_the_average_is_that_of_the_samples_so_far(kit):
    model = build(kit, False)
    swa = kit.SWA(2)
    seen = recorder(kit)
    counts = []

    def check(model):
        counts.append(swa.n_averaged)
        assert_mean(swa.averaged_weights, seen.weights[1:])

    fit(model, seen, swa, *[at(kit, "on_epoch_end", check, e) for e in range(1, 5)])
    assert counts == [1, 2, 3]


@pytest.mark.parametrize(
    "settings, epochs",
    [
        (dict(), [3, 4, 5, 6, 7, 8]),
        (dict(swa_freq=2), [3, 5, 7]),
        (dict(swa_freq=3, snapshot="cycle_end"), [5, 8]),
        (dict(swa_freq=20), [3]),
    ],
    ids=["each", "every 2nd", "every 3rd, the paper's phase", "one"],
)
def test_the_average_changes_at_just_the_planned_epochs(tf_kit, settings, epochs):
    swa = tf_kit.SWA(3, **settings)
    counts = [0]
    count = at(tf_kit, "on_epoch_end", lambda model: counts.append(swa.n_averaged))
    fit(build(tf_kit), swa, count, epochs=9)  # the ninth is the batch-norm epoch
    changed = np.flatnonzero(np.diff(counts)) + 1
    assert list(changed) == epochs
    assert swa.plan(9, 1).sampled_epochs == epochs


def trained_line(kit, swa, epochs):
    """A model of one weight whose gradient is 0.1 and whose rate is 1, trained.

    Each epoch is one step: after k of them the weight is 1 - 0.1 k.
    """
    layers = kit.keras.layers
    dense = layers.Dense(1, use_bias=False, kernel_initializer="ones", input_shape=(1,))
    model = kit.keras.Sequential([dense])
    model.compile(
        kit.keras.optimizers.SGD(1.0),
        lambda true, predicted: kit.keras.backend.mean(predicted - 0.0 * true),
    )
    rows = np.full((4, 1), 0.1, "float32"), np.zeros((4, 1), "float32")
    fit(model, swa, rows=rows, epochs=epochs)
    return model


BY_HAND = {
    "2 of 3": (dict(start_epoch=2), 3, (0.8 + 0.7) / 2, 0.7),
    "every 2nd": (dict(start_epoch=3, swa_freq=2), 7, (0.7 + 0.5 + 0.3) / 3, 0.3),
    # cycles are epochs 3-4 and 5-6; the seventh begins a third one
    "the paper's phase": (
        dict(start_epoch=3, swa_freq=2, snapshot="cycle_end"),
        7,
        (0.6 + 0.4) / 2,
        0.3,
    ),
    # rate 1.0 in epochs 1 and 2, then 0.5: weights 0.9 0.8 | 0.75 0.7 0.65
    "constant rate": (
        dict(start_epoch=3, lr_schedule="constant", swa_lr=0.5),
        5,
        (0.75 + 0.7 + 0.65) / 3,
        0.65,
    ),
}


@new_models
@pytest.mark.parametrize("name", BY_HAND)
def test_a_constant_gradient_gives_the_mean_by_hand(tf_kit, name):
    settings, epochs, average, last = BY_HAND[name]
    swa = tf_kit.SWA(**settings)
    model = trained_line(tf_kit, swa, epochs)
    np.testing.assert_allclose(model.get_weights()[0], [[average]], rtol=1e-6)
    swa.restore()
    np.testing.assert_allclose(model.get_weights()[0], [[last]], rtol=1e-6)


@both_modes
@pytest.mark.parametrize("initial_epoch", [2, 3, 5])
def test_training_may_begin_after_start_epoch(kit, initial_epoch):
    model = build(kit)
    swa = kit.SWA(4)
    seen = recorder(kit)
    fit(model, swa, seen, epochs=7, initial_epoch=initial_epoch)
    epochs = range(max(3, initial_epoch), 6)
    assert_averaged(model, [seen.weights[epoch - initial_epoch] for epoch in epochs])


@both_modes
def test_averaging_leaves_the_training_itself_alone(tf_kit):
    (plain, averaged) = twins(tf_kit, False)
    swa = tf_kit.SWA(2)
    alone = recorder(tf_kit)
    beside = recorder(tf_kit)
    fit(plain, alone)
    fit(averaged, swa, beside)
    assert all(equal(a, b) for a, b in zip(alone.weights, beside.weights))


# Samples that cannot be averaged, and rules of the user's


def test_a_sample_with_nan_is_left_out_and_counted(kit):
    model = build(kit, False)
    swa = kit.SWA(3)
    seen = recorder(kit)
    kept = []

    def keep_and_spoil(model):
        kept.extend(model.get_weights())
        spoil(model)

    spoiler = at(kit, "on_epoch_end", keep_and_spoil, 3)
    mender = at(kit, "on_epoch_begin", lambda model: model.set_weights(kept), 4)
    with pytest.warns(RuntimeWarning, match="epoch 4 hold NaN or Inf"):
        fit(model, spoiler, mender, swa, seen, epochs=7)
    assert (swa.n_averaged, swa.n_skipped) == (4, 1)
    assert_averaged(model, [seen.weights[epoch] for epoch in (2, 4, 5, 6)])


@both_modes
def test_finite_weights_whose_sum_overflows_are_averaged(kit):
    model = build(kit, False, learning_rate=1e-30)
    swa = kit.SWA(2)
    huge = [np.full_like(weight, 2e38) for weight in model.get_weights()]
    fit(model, at(kit, "on_epoch_end", lambda model: model.set_weights(huge)), swa)
    assert swa.n_averaged == 3
    np.testing.assert_allclose(model.get_weights()[0], huge[0], rtol=1e-6)


def test_an_average_by_a_rule_of_the_users(kit):
    model = build(kit, False)
    seen = recorder(kit)
    swa = kit.SWA(2, avg_fn=lambda mean, weights, n: 0.9 * mean + 0.1 * weights)
    fit(model, swa, seen)
    expected = [np.float64(weight) for weight in seen.weights[1]]
    for weights in seen.weights[2:]:
        expected = [0.9 * e + 0.1 * w for e, w in zip(expected, weights)]
    assert_mean(model.get_weights(), [expected])


def test_a_rule_that_changes_the_shape_is_refused(kit):
    swa = kit.SWA(2, avg_fn=lambda mean, weights, n: np.mean(weights))
    with refused(r"avg_fn must return.*shape \(6, 8\), got"):
        fit(build(kit), swa)


# Kinds of weights


def counting_layer(kit):
    """A layer with an integer and a boolean beside its kernel."""
    import tensorflow as tf

    def zeros(shape, dtype=None):  # Keras 2.3.1 has none for bool
        return tf.zeros(shape, dtype)

    class Counting(kit.keras.layers.Layer):
        def build(self, shape):
            own = dict(shape=(2,), initializer=zeros, trainable=False)
            self.count = self.add_weight(name="count", dtype="int32", **own)
            self.flag = self.add_weight(name="flag", dtype="bool", **own)
            self.kernel = self.add_weight(
                name="kernel", shape=(FEATURES, 1), initializer="ones"
            )
            super().build(shape)

        def call(self, inputs):
            return kit.keras.backend.dot(inputs, self.kernel)

        def compute_output_shape(self, shape):
            return shape[0], 1

    return Counting(input_shape=(FEATURES,))


@new_models
@both_modes
def test_integer_and_boolean_weights_are_kept(kit):
    counting = counting_layer(kit)
    model = kit.keras.Sequential([counting, kit.keras.layers.BatchNormalization()])
    model.compile(kit.keras.optimizers.SGD(0.05), "mse")

    class Count(kit.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kit.keras.backend.set_value(counting.count, [epoch, 7])
            kit.keras.backend.set_value(counting.flag, [epoch > 1, False])

    x = data()[0]
    swa = kit.SWA(2)
    seen = recorder(kit)
    fit(model, Count(), swa, seen, rows=(x, x[:, :1]))
    for weights in (model.get_weights(), swa.averaged_weights):
        by_type = {weight.dtype.name: weight for weight in weights}
        assert set(by_type) == {"int32", "bool", "float32"}
        np.testing.assert_array_equal(by_type["int32"], [3, 7])
        np.testing.assert_array_equal(by_type["bool"], [True, False])
    floats = [[w for w in s if w.dtype == "float32"] for s in seen.weights]
    mine = [weight for weight in model.get_weights() if weight.dtype == "float32"]
    assert_mean(mine, floats[SAMPLED], skip=(3, 4))


@pytest.fixture
def float_type(request):
    """The type of all weights, for both Kerases."""
    import tensorflow as tf

    kerases = [tf.keras, pytest.importorskip("keras")]
    before = [keras.backend.floatx() for keras in kerases]
    for keras in kerases:
        keras.backend.set_floatx(request.param)
    yield request.param
    for keras, name in zip(kerases, before):
        keras.backend.set_floatx(name)


@new_models
@both_modes
@pytest.mark.parametrize("float_type", ["float16", "float64"], indirect=True)
def test_weights_of_other_float_types(tf_kit, float_type):
    # Keras 2.3.1 itself makes batch norm of float32 only
    layers = tf_kit.keras.layers
    dense = layers.Dense(4, input_shape=(FEATURES,))
    norm = layers.BatchNormalization()
    model = tf_kit.keras.Sequential([dense, norm, layers.Dense(1)])
    model.compile(tf_kit.keras.optimizers.SGD(0.05), "mse")
    x = data()[0].astype(float_type)
    swa = tf_kit.SWA(2)
    seen = recorder(tf_kit)
    fit(model, swa, seen, rows=(x, x[:, :1]))
    means = {mean.dtype.name for mean in swa.state["average"]}
    assert means == {"float32" if float_type == "float16" else "float64"}
    tolerance = 1e-3 if float_type == "float16" else 1e-12
    statistics = statistics_of(model)
    for index, mean in enumerate(mean_of(seen.weights[SAMPLED])):
        if index not in statistics:
            weight = model.get_weights()[index]
            assert weight.dtype == float_type or index in (2, 3)  # scale and centre
            np.testing.assert_allclose(weight, mean, rtol=tolerance, atol=tolerance)
    kernel, bias = dense.get_weights()
    assert_moments(norm, np.float64(x) @ kernel + bias, tolerance)


@new_models
def test_reference_variables_are_restored_exactly(tf_kit):
    """Which graph mode alone has: what is read of them shares their memory."""
    import tensorflow as tf

    class Table(tf_kit.keras.layers.Layer):
        def build(self, shape):
            self.count = tf.Variable(np.zeros(2, "f"), trainable=False)
            super().build(shape)

        def call(self, inputs):
            step = tf.compat.v1.assign_add(self.count, [1.0, 1.0])
            self.add_update([step], inputs)
            return inputs * 1.0

    table = Table(input_shape=(FEATURES,))
    dense = tf_kit.keras.layers.Dense(1)
    model = tf_kit.keras.Sequential([table, dense])
    model.compile("sgd", "mse")
    swa = tf_kit.SWA(2)
    x = data()[0]
    fit(model, swa, rows=(x, x[:, :1]), batch_size=ROWS)
    value = tf_kit.keras.backend.get_value
    np.testing.assert_array_equal(value(table.count), 3.0)  # of 2, 3, 4
    swa.restore()
    np.testing.assert_array_equal(value(table.count), 4.0)


# One callback, many runs


@both_modes
def test_a_second_fit_starts_anew(kit):
    model = build(kit)
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    fit(model, swa, seen, epochs=5)
    fit(model, swa, seen, epochs=5)
    assert swa.n_averaged == 2
    assert_averaged(model, seen.weights[1:4:2], data()[0])
    assert_rates(seen.rates, swa, 5)


@both_modes
def test_a_fit_without_swa_afterwards_trains_as_ever(kit):
    model = build(kit)
    seen = recorder(kit)
    fit(model, kit.SWA(*CYCLIC))
    fit(model, seen, epochs=2)
    np.testing.assert_allclose(seen.rates, 0.1, rtol=1e-6)
    assert not equal(seen.begun, seen.weights[0])
    assert not equal(seen.weights[0], seen.weights[1])


@new_models
@both_modes
def test_one_callback_serves_two_models(kit):
    swa = kit.SWA(2, "constant", 0.01)
    x = data()[0]
    first = build(kit)
    inputs = kit.keras.layers.Input((4,))
    norm = kit.keras.layers.BatchNormalization()
    second = compiled(kit, inputs, kit.keras.layers.Dense(1)(norm(inputs)))
    fit(first, swa)
    kept = first.get_weights()
    seen = recorder(kit)
    fit(second, swa, seen, rows=(x[:, :4], x[:, :1]))
    assert swa.n_averaged == 2
    assert_averaged(second, seen.weights[SAMPLED])
    assert_moments(norm, x[:, :4])
    assert equal(first.get_weights(), kept)
    swa.restore()
    assert equal(second.get_weights(), seen.weights[2])
    assert equal(first.get_weights(), kept)


@new_models
@both_modes
def test_a_new_head_with_the_same_optimizer_is_averaged(tf_kit):
    layers = tf_kit.keras.layers
    model = build(tf_kit, False)
    swa = tf_kit.SWA(2)
    seen = recorder(tf_kit)
    optimizer = model.optimizer
    fit(model, swa)
    model.pop()
    model.add(layers.BatchNormalization())
    model.add(layers.Dense(CLASSES, activation="softmax"))
    model.compile(optimizer, "sparse_categorical_crossentropy")
    fit(model, swa, seen)
    assert_averaged(model, seen.weights[SAMPLED])


# A loop of the user's


def train_by_hand(model, members, epochs):
    """As in a GAN's: `train_on_batch`, and each hook called by the user."""
    x, y = data()
    starts = range(0, ROWS, BATCH)

    def call(hook, *arguments):
        for member in members:
            getattr(member, hook)(*arguments)

    call("set_model", model)
    call("set_params", {"epochs": epochs, "steps": len(starts)})
    call("on_train_begin")
    for epoch in range(epochs):
        call("on_epoch_begin", epoch)
        for batch, start in enumerate(starts):
            call("on_batch_begin", batch, {})
            rows = slice(start, start + BATCH)
            model.train_on_batch(x[rows], y[rows])
            call("on_batch_end", batch, {})
        call("on_epoch_end", epoch, {})
    call("on_train_end")


@both_modes
def test_a_loop_by_hand_calls_the_hooks(kit):
    model = build(kit)
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    train_by_hand(model, (swa, seen), epochs=6)
    assert_averaged(model, [seen.weights[1], seen.weights[3]], data()[0])
    assert rate_of(kit, model) == pytest.approx(0.1)
    assert_rates(seen.rates, swa, 6)


@both_modes
def test_a_loop_by_hand_may_end_in_an_except_clause(kit):
    model = build(kit, False)
    swa = kit.SWA(2)
    seen = recorder(kit)

    def fail(model):
        raise KeyboardInterrupt

    try:
        train_by_hand(model, (swa, seen, at(kit, "on_batch_end", fail, 4)), epochs=6)
    except KeyboardInterrupt:
        swa.on_train_end()
    assert swa.n_averaged == 3
    assert_averaged(model, seen.weights[1:])


@both_modes
def test_fit_may_run_in_an_except_clause(kit):
    model = build(kit, False)
    seen = recorder(kit)
    try:
        raise OSError("no saved model")
    except OSError:
        fit(model, kit.SWA(2), seen)
    assert_averaged(model, seen.weights[1:])


@both_modes
def test_a_loop_by_hand_after_an_interrupt_begins_on_the_trained_weights(kit):
    model = build(kit)
    seen, after = recorder(kit), recorder(kit)
    interrupted(kit, model, kit.SWA(2), 3, seen)
    train_by_hand(model, (kit.SWA(2), after), epochs=4)
    assert equal(after.begun, seen.weights[2])


@both_modes
def test_a_callback_list_of_the_users_is_given_back(kit):
    from tensorflow.python.keras import callbacks as tf_callbacks  # not in tf.keras

    kinds = kit.keras.callbacks if kit.name == "keras" else tf_callbacks
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    model = build(kit)
    callbacks = kinds.CallbackList([swa, seen])
    for _ in range(2):
        train_by_hand(model, [callbacks], epochs=4)
        assert callbacks.callbacks == [swa, seen]
    assert_rates(seen.rates, swa, 4)
