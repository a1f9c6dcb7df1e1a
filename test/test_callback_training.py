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
from test_callback import (
    BATCH,
    FEATURES,
    assert_mean,
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


# run_eagerly needs eager mode
def one_line(text):
    """A pattern of a message that is one line with `text` in it."""
    return re.compile(rf"\A[^\n]*{text}[^\n]*\Z")


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


def test_update_bn_does_not_make_the_graph_grow(kit):
    if kit.is_eager:
        pytest.skip("only graph mode has a graph")
    model, x = build(kit), data()[0]

    def operations():
        kit.update_bn(model, x)
        return len(kit.keras.backend.get_session().graph.get_operations())

    assert operations() == operations()


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
