# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""One callback for every way to train and every kind of batch norm, against numpy.

`test_eager.py` runs this file once more with SWA_TEST_MODE=eager. A short run is
four epochs with SWA from the second: the second and third are averaged, the
fourth is the batch-norm pass.
"""

import collections
import re
import sys

import numpy as np
import pytest
from conftest import IS_EAGER
from test_callback import (
    BATCH,
    CLASSES,
    FEATURES,
    ROWS,
    assert_mean,
    assert_statistics,
    build,
    data,
    equal,
    fit,
    rate_of,
    recorder,
)

pytestmark = pytest.mark.both_modes

EPSILON = 1e-3  # of batch norm, in both Kerases
EPOCHS, SAMPLED = 4, slice(1, 3)
STEPS = 3  # batches an epoch, where a generator gives them


def short_run(kit, model, x, y=None, method="fit", **options):
    """Trains `model` with SWA and checks the mean of its weights."""
    swa, seen = kit.SWA(2), recorder(kit)
    rows = (x,) if y is None else (x, y)
    if y is not None:
        options = dict(dict(batch_size=BATCH, shuffle=False), **options)
    getattr(model, method)(
        *rows, epochs=EPOCHS, verbose=0, callbacks=[swa, seen], **options
    )
    assert_averaged(model, seen)
    return swa, seen


def assert_averaged(model, seen):
    """The weights are the mean of both samples, batch norm's statistics aside."""
    assert_mean(model.get_weights(), seen.weights[SAMPLED], statistics_of(model))


def statistics_of(model):
    """Where the statistics of batch norm are in `get_weights()`."""
    weights = [weight for layer in model.layers for weight in layer.weights]
    return [i for i, weight in enumerate(weights) if "/moving_" in weight.name]


def assert_layer(layer, batches, channel=-1, tolerance=1e-5):
    """A batch-norm layer has the moments of all rows of `batches`."""
    rows = np.concatenate(
        [np.moveaxis(b, channel, -1).reshape(-1, b.shape[channel]) for b in batches]
    )
    mean, variance = layer.get_weights()[-2:]
    close = dict(rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(mean, rows.mean(0), **close)
    np.testing.assert_allclose(variance, rows.var(0), **close)


def sliced(x, size=BATCH):
    """The batches of `x` in float64, as `fit` makes them of unshuffled rows."""
    return [np.float64(x[start : start + size]) for start in range(0, len(x), size)]


def dense(layer, batches):
    """A linear layer's outputs."""
    weights = layer.get_weights()
    return [sum([batch @ weights[0]] + weights[1:]) for batch in batches]


def convolved(layer, batches):
    """A convolution's outputs: square kernel, no padding, no bias."""
    (kernel,) = layer.get_weights()
    size = kernel.shape[0]
    return [
        sum(
            batch[:, i : i + edge, j : j + edge] @ np.float64(kernel[i, j])
            for i in range(size)
            for j in range(size)
        )
        for batch in batches
        for edge in [batch.shape[1] - size + 1]
    ]


def normalised(layer, batches):
    """A batch-norm layer's outputs in training: each batch by its own moments."""
    gamma, beta = layer.get_weights()[:2]
    outputs = []
    for batch in batches:
        axes = tuple(range(batch.ndim - 1))
        centred = batch - batch.mean(axes)
        outputs.append(centred / np.sqrt(batch.var(axes) + EPSILON) * gamma + beta)
    return outputs


def rectified(batches):
    return [np.maximum(batch, 0) for batch in batches]


def joined(*parts):
    return [np.concatenate(batches, -1) for batches in zip(*parts)]


def compiled(kit, inputs, outputs, loss="mse", **options):
    model = kit.keras.Model(inputs, outputs)
    optimizer = kit.keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss, **options)
    return model


def recorded(batches):
    """A generator without end over new rows, and the list of what it gave."""
    given = []

    def generate():
        generator = np.random.RandomState(3)
        while True:
            x, y = batches(generator)
            given.append(x)
            yield x, y

    return generate(), given


def random_rows(generator):
    rows = generator.randint(5, 12)
    x = generator.randn(rows, FEATURES).astype("float32")
    return x, generator.randint(0, CLASSES, rows)


def rows_of_the_pass(given):
    """Of all that a generator gave, the batches of the last epoch."""
    return given[(EPOCHS - 1) * STEPS : EPOCHS * STEPS]


# What fit is given


# run_eagerly needs eager mode
WAYS = [{}, {"run_eagerly": True}] if IS_EAGER else [{}]
way = pytest.mark.parametrize("way", WAYS, ids=["plain", "eagerly"][: len(WAYS)])


def two_inputs_and_outputs(kit, **options):
    layers = kit.keras.layers
    left, right = layers.Input((FEATURES,), name="z"), layers.Input((4,), name="a")
    first, second = layers.Dense(5)(left), layers.Dense(3)(right)
    first = layers.BatchNormalization(name="first")(first)
    second = layers.BatchNormalization(name="second")(second)
    both = layers.concatenate([first, second])
    both = layers.BatchNormalization(name="both")(layers.Dense(4, name="mix")(both))
    outputs = [layers.Dense(1, name="one")(both), layers.Dense(2, name="two")(first)]
    return compiled(kit, [left, right], outputs, **options)


@way
def test_several_inputs_and_outputs(kit, way):
    model = two_inputs_and_outputs(kit, **way)
    x, other = data()[0], np.random.randn(ROWS, 4).astype("float32")
    y = [x[:, :1], x[:, 1:3]]
    held_out = ([x[:20] * 9, other[:20]], [y[0][:20], y[1][:20]])
    short_run(kit, model, [x, other], y, validation_data=held_out)
    first, second = [layer for layer in model.layers if "dense" in layer.name]
    left, right = dense(first, sliced(x)), dense(second, sliced(other))
    assert_layer(model.get_layer("first"), left)
    assert_layer(model.get_layer("second"), right)
    left = normalised(model.get_layer("first"), left)
    right = normalised(model.get_layer("second"), right)
    mixed = dense(model.get_layer("mix"), joined(left, right))
    assert_layer(model.get_layer("both"), mixed)


@way
@pytest.mark.parametrize("kind", ["class_weight", "sample_weight"])
def test_weights_of_rows_leave_the_statistics_those_of_all_rows(kit, kind, way):
    model, (x, y) = build(kit, **way), data()
    weights = {
        "class_weight": {0: 0.0, 1: 1.0, 2: 9.0},
        "sample_weight": np.linspace(0, 9, ROWS),
    }
    plain = build(kit)
    plain.set_weights(model.get_weights())
    fit(plain, recorder(kit), epochs=EPOCHS, shuffle=False)
    _, seen = short_run(kit, model, x, y, **{kind: weights[kind]})
    assert_statistics(model.get_weights(), x)
    assert not equal(seen.weights[0], plain.get_weights())


def test_sample_weights_that_first_come_in_a_second_fit(kit):
    model, (x, y) = build(kit), data()
    fit(model, kit.SWA(2), epochs=3)
    short_run(kit, model, x, y, sample_weight=np.linspace(0, 9, ROWS))
    assert_statistics(model.get_weights(), x)


def test_a_generator_of_new_rows_through_fit_generator(kit):
    model = build(kit)
    rows, given = recorded(random_rows)
    short_run(kit, model, rows, method="fit_generator", steps_per_epoch=STEPS)
    assert_statistics(model.get_weights(), np.concatenate(rows_of_the_pass(given)))


def test_a_generator_of_new_rows_through_fit(kit):
    model = build(kit)
    # stock eager fit wants batches of one length
    rows, given = recorded(lambda generator: data(generator.randint(999), 8))
    short_run(kit, model, rows, steps_per_epoch=STEPS)
    weights = model.get_weights()
    if not kit.is_eager:
        assert_statistics(weights, np.concatenate(rows_of_the_pass(given)))
        return
    # stock eager fit fetches ahead and drops rows, but gives them in their order
    runs = [np.concatenate(given[i : i + STEPS]) for i in range(len(given))]
    hidden = [np.maximum(run @ weights[0] + weights[1], 0).mean(0) for run in runs]
    nearest = np.argmin([np.abs(mean - weights[4]).max() for mean in hidden])
    assert_statistics(weights, runs[nearest])


def test_validation_beside_a_generator_leaves_the_statistics(kit):
    model = build(kit)
    rows, given = recorded(random_rows)
    held_out = data(7, 20)
    held_out = held_out[0] * 100, held_out[1]
    short_run(
        kit,
        model,
        rows,
        method="fit_generator",
        steps_per_epoch=STEPS,
        validation_data=held_out,
    )
    assert_statistics(model.get_weights(), np.concatenate(rows_of_the_pass(given)))


def batches_of(kit, x, y, size=BATCH):
    """A Sequence; its last batch is short."""

    class Rows(kit.keras.utils.Sequence):
        def __len__(self):
            return -(-len(x) // size)

        def __getitem__(self, index):
            rows = slice(index * size, index * size + size)
            return x[rows], y[rows]

    return Rows()


@pytest.mark.parametrize("method", ["fit", "fit_generator"])
def test_a_sequence(kit, method):
    # stock eager fit refuses a short last batch of a Sequence
    size = 10 if kit.is_eager and method == "fit" else BATCH
    model, (x, y) = build(kit), data()
    rows = batches_of(kit, x, y, size)
    short_run(kit, model, rows, method=method, shuffle=False)
    assert_statistics(model.get_weights(), x)


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown length"])
def test_a_data_set_with_a_short_last_batch(tf_kit, known):
    import tensorflow as tf

    model, (x, y) = build(tf_kit), data()
    rows = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    if not known:
        rows = rows.filter(lambda x, y: True)
    short_run(tf_kit, model, rows)
    assert_statistics(model.get_weights(), x)


def data_that_end(batches):
    """A shuffled data set of full batches that ends after `batches`."""
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices(data(rows=48)).shuffle(48)
    return rows.repeat().batch(BATCH).take(batches)


@pytest.mark.parametrize("batches", [4, 6, 10], ids=["early", "between", "in the pass"])
def test_where_the_data_run_out_the_trained_weights_stay(tf_kit, batches):
    if tf_kit.is_eager and batches == 6:
        pytest.skip("only graph mode trains an epoch without data: eager fit raises")
    model, swa, seen = build(tf_kit), tf_kit.SWA(2), recorder(tf_kit)
    with pytest.warns(RuntimeWarning, match="trained weights stay") as caught:
        model.fit(
            data_that_end(batches),
            epochs=EPOCHS,
            steps_per_epoch=STEPS,
            verbose=0,
            callbacks=[swa, seen],
        )
    assert len([one for one in caught if "SWA" in str(one.message)]) == 1
    trained = 2 if batches == 10 else -1  # the pass changed what came last
    assert equal(model.get_weights(), seen.weights[trained])
    assert rate_of(tf_kit, model) == pytest.approx(0.1)


def test_an_epoch_without_data_is_no_sample(tf_kit):
    if tf_kit.is_eager:
        pytest.skip("only graph mode trains an epoch without data: eager fit raises")
    model, swa = build(tf_kit, False), tf_kit.SWA(2)
    model.fit(data_that_end(6), epochs=4, steps_per_epoch=3, verbose=0, callbacks=[swa])
    assert swa.n_averaged == 1


def test_where_the_data_end_before_the_pass_the_trained_weights_stay(tf_kit):
    model, swa, seen = build(tf_kit), tf_kit.SWA(2), recorder(tf_kit)
    if tf_kit.is_eager:  # it raises for an epoch without data, with SWA or without
        expected = pytest.raises(ValueError, match="Empty training data")
    else:
        expected = pytest.warns(RuntimeWarning, match="trained weights stay")
    with expected:
        model.fit(
            data_that_end(9),
            epochs=EPOCHS,
            steps_per_epoch=STEPS,
            verbose=0,
            callbacks=[swa, seen],
        )
    assert equal(model.get_weights(), seen.weights[2])
    assert rate_of(tf_kit, model) == pytest.approx(0.1)


# What is refused


def train_optimizer(kit):
    """An optimizer of `tf.train`, as its Keras takes one."""
    import tensorflow as tf

    optimizer = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    wrap = getattr(kit.keras.optimizers, "TFOptimizer", lambda made: made)
    return wrap(optimizer)


def compiled_for_train_optimizer(kit):
    options = {"run_eagerly": True} if kit.is_eager else {}
    return build(kit, optimizer=train_optimizer(kit), **options)


def one_line(text):
    """A pattern of a message that is one line with `text` in it."""
    return re.compile(rf"\A[^\n]*{text}[^\n]*\Z")


def test_an_optimizer_of_tf_train_is_refused_unless_manual(kit):
    model = build(kit, optimizer=train_optimizer(kit))
    with pytest.raises(ValueError, match=one_line("lr_schedule must be 'manual'")):
        fit(model, kit.SWA(3, "constant", 0.01))


def test_an_optimizer_of_tf_train_averages_and_keeps_still_in_the_pass(kit):
    class Recorder(kit.keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.weights = []

        def on_epoch_end(self, epoch, logs=None):
            self.weights.append(self.model.get_weights())

    model, seen = compiled_for_train_optimizer(kit), Recorder()
    fit(model, kit.SWA(2), seen, epochs=EPOCHS)
    assert_averaged(model, seen)
    assert_statistics(model.get_weights(), data()[0])


@pytest.mark.parametrize("within", ["compile", "fit"])
def test_a_distribution_strategy_is_refused(tf_kit, within):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with pytest.raises(ValueError, match=one_line("tf.distribute strategy scope")):
        with strategy.scope():
            model = build(tf_kit)
            if within == "fit":
                fit(model, tf_kit.SWA(3))
        fit(model, tf_kit.SWA(3))


# Every kind of batch norm


def augmented_images(generator):
    """Images flipped at random, with noise."""
    x = generator.rand(8, 6, 6, 2) + generator.rand(2)
    x = x[:, :, :: generator.choice([-1, 1])].astype("float32")
    return x, generator.randint(0, CLASSES, 8)


def convolutional(kit, norms):
    layers = kit.keras.layers
    inputs = layers.Input((6, 6, 2))
    hidden = inputs
    for norm in norms:
        hidden = norm(layers.Conv2D(4, 3, use_bias=False)(hidden))
        hidden = layers.Activation("relu")(hidden)
    hidden = layers.Flatten()(layers.Dropout(0.5)(hidden))
    outputs = layers.Dense(CLASSES, activation="softmax")(hidden)
    return compiled(kit, inputs, outputs, "sparse_categorical_crossentropy")


def test_a_convolutional_net_with_dropout_and_augmentation(kit):
    layers = kit.keras.layers
    # stand-alone Keras always fuses here; the test of axes has its other way
    unfused = {} if kit.name == "keras" else {"fused": False}
    norms = [layers.BatchNormalization(), layers.BatchNormalization(**unfused)]
    model = convolutional(kit, norms)
    images, given = recorded(augmented_images)
    _, seen = short_run(
        kit, model, images, method="fit_generator", steps_per_epoch=STEPS
    )
    convolutions = [layer for layer in model.layers if "conv2d" in layer.name]
    batches = [np.float64(batch) for batch in rows_of_the_pass(given)]
    first = convolved(convolutions[0], batches)
    assert_layer(norms[0], first)
    second = convolved(convolutions[1], rectified(normalised(norms[0], first)))
    assert_layer(norms[1], second)
    assert equal(seen.slots[-1], seen.slots[-2])


def test_dropout_drops_in_the_pass(kit):
    layers = kit.keras.layers
    inputs = layers.Input((FEATURES,))
    norm = layers.BatchNormalization()
    model = compiled(kit, inputs, layers.Dense(1)(norm(layers.Dropout(0.5)(inputs))))
    x = np.ones((ROWS, FEATURES), "float32")
    short_run(kit, model, x, x[:, :1])
    mean, variance = norm.get_weights()[2:]
    # each value is 0 or 2, so half the mean is the share that was kept
    kept = mean / 2 * ROWS
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-4)
    np.testing.assert_allclose(variance, mean * (2 - mean), rtol=1e-5)
    assert np.all(variance > 0.5)


@pytest.mark.parametrize("shape, axis", [((5, 3), 1), ((5, 4, 3), 1), ((4, 3), -1)])
def test_any_shape_and_axis(kit, shape, axis):
    layers = kit.keras.layers
    # the fused kernel wants the channels last on a CPU
    unfused = {"fused": False} if kit.name == "tf.keras" and len(shape) == 3 else {}
    inputs = layers.Input(shape)
    norm = layers.BatchNormalization(axis=axis, **unfused)
    model = compiled(kit, inputs, layers.Dense(1)(layers.Flatten()(norm(inputs))))
    x = np.random.RandomState(5).rand(ROWS, *shape).astype("float32")
    short_run(kit, model, x, x.reshape(ROWS, -1)[:, :1])
    assert_layer(norm, sliced(x), axis)


def test_a_shared_layer_has_the_statistics_of_all_its_uses(kit):
    layers = kit.keras.layers
    shared = layers.BatchNormalization(momentum=1.0)
    long, short = layers.Input((7, 3)), layers.Input((2, 3))
    parts = [layers.Flatten()(shared(one)) for one in (long, short)]
    model = compiled(kit, [long, short], layers.Dense(1)(layers.concatenate(parts)))
    generator = np.random.RandomState(5)
    x = [generator.randn(ROWS, 7, 3), generator.rand(ROWS, 2, 3) + 3]
    short_run(kit, model, [np.float32(rows) for rows in x], x[0][:, 0, :1])
    assert_layer(shared, x)


def test_models_nested_two_deep(kit):
    layers = kit.keras.layers
    innermost, norm = layers.Dense(5, input_shape=(4,)), layers.BatchNormalization()
    inner = kit.keras.Sequential([innermost, norm])
    between = layers.Input((4,))
    middle = kit.keras.Model(between, inner(layers.Activation("relu")(between)))
    inputs = layers.Input((FEATURES,))
    first = layers.Dense(4)
    model = compiled(kit, inputs, layers.Dense(1)(middle(first(inputs))))
    x = data()[0]
    short_run(kit, model, x, x[:, :1])
    assert_layer(norm, dense(innermost, rectified(dense(first, sliced(x)))))


def test_time_distributed(kit):
    layers = kit.keras.layers
    inputs = layers.Input((4, 3))
    norm = layers.BatchNormalization()
    hidden = layers.Flatten()(layers.TimeDistributed(norm)(inputs))
    model = compiled(kit, inputs, layers.Dense(1)(hidden))
    x = np.random.RandomState(5).rand(ROWS, 4, 3).astype("float32")
    short_run(kit, model, x, x[:, 0, :1])
    assert_layer(norm, sliced(x))


def test_layers_in_lists_and_dictionaries_of_a_layer(tf_kit):
    layers = tf_kit.keras.layers

    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.listed = [layers.BatchNormalization(), layers.BatchNormalization()]
            self.named = {"last": layers.BatchNormalization()}

        def call(self, inputs, training=None):
            for norm in self.listed:
                inputs = norm(inputs, training=training)
            return self.named["last"](inputs, training=training)

    block, inputs = Block(), layers.Input((FEATURES,))
    model = compiled(tf_kit, inputs, layers.Dense(1)(block(inputs)))
    x = data()[0]
    short_run(tf_kit, model, x, x[:, :1])
    batches = sliced(x)
    for norm in block.listed + [block.named["last"]]:
        assert_layer(norm, batches)
        batches = normalised(norm, batches)


KINDS = {
    "no scale": dict(scale=False),
    "no centre": dict(center=False),
    "momentum 1": dict(momentum=1.0),
    "momentum 0.5": dict(momentum=0.5),
    "momentum 0.9999": dict(momentum=0.9999),
}


def in_parallel(kit, kinds):
    """A model with several kinds of batch norm on one input, and those layers."""
    layers = kit.keras.layers
    inputs = layers.Input((FEATURES,))
    norms = [layers.BatchNormalization(**kind) for kind in kinds]
    merged = layers.concatenate([norm(inputs) for norm in norms])
    return compiled(kit, inputs, layers.Dense(1)(merged)), norms


def test_any_scale_centre_and_momentum(kit):
    model, norms = in_parallel(kit, KINDS.values())
    x = data()[0]
    short_run(kit, model, x, x[:, :1])
    for norm in norms:
        assert_layer(norm, sliced(x))


def test_frozen_layers_are_left_alone(kit):
    model, norms = in_parallel(kit, [{}, {}])
    for index, norm in enumerate(norms):
        norm.set_weights([weight + 0.3 for weight in norm.get_weights()])
        norm.trainable = index != 1
    model.compile(kit.keras.optimizers.SGD(0.05), "mse")
    still = norms[1].get_weights()
    x = data()[0]
    short_run(kit, model, x, x[:, :1])
    assert equal(norms[1].get_weights(), still)
    assert_layer(norms[0], sliced(x))


def test_a_model_whose_batch_norm_is_all_frozen_needs_no_pass(kit):
    model, norms = in_parallel(kit, [{"trainable": False}] * 2)
    x = data()[0]
    swa, seen = kit.SWA(2), recorder(kit)
    model.fit(x, x[:, :1], epochs=EPOCHS, verbose=0, callbacks=[swa, seen])
    assert (swa.n_averaged, swa.batch_norm_epoch) == (3, None)
    assert_mean(model.get_weights(), seen.weights[1:])


@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_called_for_inference_keeps_its_statistics(tf_kit, nested):
    layers = tf_kit.keras.layers
    inputs = layers.Input((FEATURES,))
    still, norm = layers.BatchNormalization(input_shape=(FEATURES,)), None
    called = tf_kit.keras.Sequential([still]) if nested else still
    norm = layers.BatchNormalization()
    outputs = layers.Dense(1)(norm(called(inputs, training=False)))
    still.set_weights([weight + 0.5 for weight in still.get_weights()])
    model, x = compiled(tf_kit, inputs, outputs), data()[0]
    short_run(tf_kit, model, x, x[:, :1])
    gamma, beta, mean, variance = [np.float64(w) for w in still.get_weights()]
    np.testing.assert_array_equal(mean, 0.5)
    np.testing.assert_array_equal(variance, 1.5)
    assert_layer(norm, [(x - mean) / np.sqrt(variance + EPSILON) * gamma + beta])


def test_the_settings_of_all_layers_are_unchanged(kit):
    model, norms = in_parallel(kit, [{}, {"momentum": 0.5}])
    norms[0].trainable = False
    model.compile(kit.keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    x = data()[0]
    model.fit(x, x[:, :1], verbose=0)
    owners = [model, model.optimizer] + model.layers

    def settings():
        own = [set(vars(owner)) for owner in owners]
        momenta = [(norm.momentum, norm.trainable) for norm in norms]
        return own, momenta, model.get_config(), model.stop_training

    before = settings()
    short_run(kit, model, x, x[:, :1])
    assert settings() == before


# Kinds of weights


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


@pytest.mark.parametrize("float_type", ["float16"], indirect=True)
def test_an_epoch_of_more_batches_than_float16_counts(kit, float_type):
    model = kit.keras.Sequential([kit.keras.layers.Dense(1, input_shape=(FEATURES,))])
    model.compile(kit.keras.optimizers.SGD(0.05), "mse")
    x, seen = data(rows=2060)[0].astype("float16"), recorder(kit)
    swa = kit.SWA(2, "cyclic", 0.01, 0.05, 2, snapshot="cycle_end")
    model.fit(
        x,
        x[:, :1],
        batch_size=1,
        initial_epoch=2,
        epochs=3,
        verbose=0,
        callbacks=[swa, seen],
    )
    planned = swa.plan(3, 2060).rates[2]
    np.testing.assert_allclose(seen.rates, planned, rtol=2e-3)


# One callback, many runs


def test_restore_is_idempotent(kit):
    model, swa, seen = build(kit), kit.SWA(2), recorder(kit)
    swa.restore()
    fit(model, swa, seen, epochs=EPOCHS)
    swa.restore()
    swa.restore()
    assert equal(model.get_weights(), seen.weights[2])
    mine = [weight + 1 for weight in model.get_weights()]
    model.set_weights(mine)
    swa.restore()
    assert equal(model.get_weights(), mine)


def test_a_file_of_the_final_model_predicts_the_same(kit, tmp_path):
    model, x = build(kit), data()[0]
    fit(model, kit.SWA(2, "cyclic", 0.01, 0.05, 2), epochs=EPOCHS)
    path = str(tmp_path / "model.h5")
    model.save(path)
    loaded = kit.keras.models.load_model(path)
    assert equal(loaded.get_weights(), model.get_weights())
    np.testing.assert_allclose(loaded.predict(x), model.predict(x), rtol=1e-6)
    assert rate_of(kit, loaded) == pytest.approx(0.1)


# update_bn


def uncompiled(kit):
    """A model of two inputs, `z` before `a`, and its two batch-norm layers."""
    layers = kit.keras.layers
    inputs = [layers.Input((FEATURES,), name="z"), layers.Input((FEATURES,), name="a")]
    norms = [layers.BatchNormalization(momentum=1.0) for _ in inputs]
    joint = layers.concatenate([norm(one) for norm, one in zip(norms, inputs)])
    return kit.keras.Model(inputs, layers.Dense(1)(joint)), norms


def pairs(size=None):
    x = [data(1)[0], data(2)[0] + 2]
    if size is None:
        return x
    return [[rows[i : i + size] for rows in x] for i in range(0, ROWS, size)]


def named(pair):
    return {"z": pair[0], "a": pair[1]}


def sequence_of(kit, items):
    class Items(kit.keras.utils.Sequence):
        def __len__(self):
            return len(items)

        def __getitem__(self, index):
            return items[index]

    return Items()


ROWS_FOR_UPDATE = {
    "list of arrays": lambda kit: pairs(),
    "dict of arrays": lambda kit: named(pairs()),
    "Sequence of lists": lambda kit: sequence_of(kit, pairs(16)),
    "Sequence with targets": lambda kit: sequence_of(
        kit, [(pair, np.zeros(len(pair[0]))) for pair in pairs(16)]
    ),
    "generator of dicts": lambda kit: (named(pair) for pair in pairs(16)),
    "generator with weights": lambda kit: ((named(p), 0, 1) for p in pairs(16)),
}


@pytest.mark.parametrize("rows", sorted(ROWS_FOR_UPDATE))
def test_update_bn_of_several_inputs(kit, rows):
    model, norms = uncompiled(kit)
    kit.update_bn(model, ROWS_FOR_UPDATE[rows](kit), batch_size=16)
    for norm, x in zip(norms, pairs()):
        assert_layer(norm, [np.float64(x)])


def data_sets():
    import tensorflow as tf

    slices = tf.data.Dataset.from_tensor_slices
    x = pairs()
    return {
        "of tuples with targets": slices((tuple(x), np.zeros(ROWS))),
        "of dicts": slices(named(x)),
        "of dicts with targets": slices((named(x), np.zeros(ROWS))),
    }


@pytest.mark.parametrize(
    "elements", ["of tuples with targets", "of dicts", "of dicts with targets"]
)
def test_update_bn_of_a_data_set(kit, elements):
    model, norms = uncompiled(kit)
    kit.update_bn(model, data_sets()[elements].batch(16))
    for norm, x in zip(norms, pairs()):
        assert_layer(norm, [np.float64(x)])


def test_update_bn_of_a_data_set_with_a_stateful_generator(tf_kit):
    import tensorflow as tf

    x = data()[0]
    rows = tf.data.Dataset.from_generator(lambda: iter(x), tf.float32, (FEATURES,))
    model = build(tf_kit)
    tf_kit.update_bn(model, rows.shuffle(ROWS).batch(16))
    assert_statistics(model.get_weights(), x)


def test_update_bn_is_exact_for_uneven_batches_far_from_zero(kit):
    model, norms = uncompiled(kit)
    x = [rows * scale + 30 for rows, scale in zip(pairs(), (1, 5))]
    ends = [0, 1, 31, 33, ROWS]
    batches = [[rows[i:j] for rows in x] for i, j in zip(ends, ends[1:])]
    kit.update_bn(model, iter(batches))
    for norm, rows in zip(norms, x):
        assert_layer(norm, [np.float64(rows)])


def test_update_bn_again_forgets_the_rows_before(kit):
    model, x = build(kit), data()[0]
    kit.update_bn(model, x + 5)
    kit.update_bn(model, x)
    assert_statistics(model.get_weights(), x)


def test_update_bn_does_not_make_the_graph_grow(kit):
    if kit.is_eager:
        pytest.skip("only graph mode has a graph")
    model, x = build(kit), data()[0]

    def operations():
        kit.update_bn(model, x)
        return len(kit.keras.backend.get_session().graph.get_operations())

    assert operations() == operations()


def test_update_bn_serves_weights_that_were_set_by_hand(kit):
    model, x = build(kit), data()[0]
    generator = np.random.RandomState(9)
    model.set_weights([generator.rand(*w.shape) for w in model.get_weights()])
    before = model.get_weights()
    kit.update_bn(model, x, batch_size=7)
    after = model.get_weights()
    assert_statistics(after, x)
    assert equal(after[:4] + after[6:], before[:4] + before[6:])


def test_update_bn_of_a_loaded_model(kit, tmp_path):
    path, x = str(tmp_path / "model.h5"), data()[0]
    build(kit).save(path)
    model = kit.keras.models.load_model(path, compile=False)
    kit.update_bn(model, x)
    assert_statistics(model.get_weights(), x)


def test_update_bn_leaves_frozen_layers_alone(kit):
    model, norms = uncompiled(kit)
    norms[0].trainable = False
    still = norms[0].get_weights()
    kit.update_bn(model, pairs())
    assert equal(norms[0].get_weights(), still)
    assert_layer(norms[1], [np.float64(pairs()[1])])


def test_update_bn_of_no_rows_changes_nothing(kit):
    model = build(kit)
    before = model.get_weights()
    for rows in (np.zeros((0, FEATURES), "float32"), iter([])):
        with pytest.raises(ValueError, match=one_line("x must hold at least one row")):
            kit.update_bn(model, rows)
    assert equal(model.get_weights(), before)


def test_update_bn_is_undone_by_no_later_fit(kit):
    """A `fit` after it trains as ever: momentum mixes batch after batch in."""
    model, plain = build(kit), build(kit)
    (x, y), model.stop_training = data(), False
    kit.update_bn(model, x)
    plain.set_weights(model.get_weights())
    for one in (model, plain):
        one.fit(x, y, batch_size=BATCH, verbose=0, shuffle=False)
    assert_mean(model.get_weights(), [plain.get_weights()])


def deep(kit, number):
    """A model of `number` batch-norm layers, ready to train."""
    layers = kit.keras.layers
    model = kit.keras.Sequential([layers.Dense(4, input_shape=(FEATURES,))])
    for _ in range(number):
        model.add(layers.BatchNormalization())
    model.compile(kit.keras.optimizers.SGD(0.01), "mse")
    model._make_train_function()
    return model


def calls_of_set_up(kit, model):
    """How many Python functions are called when training with SWA begins."""
    swa, events = kit.SWA(2), collections.Counter()

    def count(frame, event, argument):
        events[event] += 1

    swa.set_model(model)
    swa.set_params({"epochs": 3, "steps": 1})
    sys.setprofile(count)
    try:
        swa.on_train_begin()
    finally:
        sys.setprofile(None)
    swa.restore()
    return events["call"]


def test_set_up_grows_in_proportion_with_the_layers(kit):
    if kit.is_eager:
        pytest.skip("only graph mode searches a graph")
    few, many = [calls_of_set_up(kit, deep(kit, number)) for number in (2, 8)]
    # below the 4 times of the layers, since some work is the same for any model
    assert many < 4 * few
