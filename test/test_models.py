# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Every kind of model and optimizer: the average, and the statistics of each layer.

A new kind of model is a function that returns a `Case`, in `MODELS` or in `TF_MODELS`.
"""

from typing import Any, Callable, List, NamedTuple, Tuple

import numpy as np
import pytest
from support.callback_kit import (
    BATCH,
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
    batches_of,
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


class Case(NamedTuple):
    """A compiled model, and what its batch-norm layers must get."""

    model: Any
    x: Any  # rows, or a list of them, one array an input
    y: Any
    # () -> batch-norm layers and the batches (rows, ..., channels) that reach each
    # after training, when the batches of `x` go through the model in training mode
    inputs: Callable[[], List[Tuple[Any, List[np.ndarray]]]]
    batch_size: int = BATCH


# Numpy's layers: of batches, in float64


def dense(layer, batches):
    weights = layer.get_weights()
    return [sum([batch @ weights[0]] + weights[1:]) for batch in batches]


def convolved(layer, batches):
    """Square kernel, no padding, no bias."""
    (kernel,) = layer.get_weights()
    size = kernel.shape[0]
    outputs = []
    for batch in batches:
        edge = batch.shape[1] - size + 1
        outputs.append(
            sum(
                batch[:, i : i + edge, j : j + edge] @ np.float64(kernel[i, j])
                for i in range(size)
                for j in range(size)
            )
        )
    return outputs


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


def cut(x, size=BATCH):
    return batches_of(np.float64(x), size)


# Models of both Kerases


def several_inputs_and_outputs(kit, **options):
    layers = kit.keras.layers
    left, right = layers.Input((FEATURES,), name="z"), layers.Input((4,), name="a")
    of_left, of_right = layers.Dense(5), layers.Dense(3)
    first, second, both = [layers.BatchNormalization() for _ in range(3)]
    mix = layers.Dense(4)
    first_output, second_output = first(of_left(left)), second(of_right(right))
    joint = both(mix(layers.concatenate([first_output, second_output])))
    outputs = [layers.Dense(1)(joint), layers.Dense(2)(first_output)]
    model = compiled(kit, [left, right], outputs, **options)
    x, other = data()[0], np.random.RandomState(2).randn(ROWS, 4).astype("float32")

    def inputs():
        lefts, rights = dense(of_left, cut(x)), dense(of_right, cut(other))
        parts = joined(normalised(first, lefts), normalised(second, rights))
        return [(first, lefts), (second, rights), (both, dense(mix, parts))]

    return Case(model, [x, other], [x[:, :1], x[:, 1:3]], inputs)


def convolutions(kit):
    layers = kit.keras.layers
    # stand-alone Keras always fuses here; "images by channel" has its other way
    unfused = {} if kit.name == "keras" else {"fused": False}
    norms = [layers.BatchNormalization(), layers.BatchNormalization(**unfused)]
    filters = [layers.Conv2D(4, 3, use_bias=False) for _ in norms]
    pixels = hidden = layers.Input((6, 6, 2))
    for convolution, norm in zip(filters, norms):
        hidden = layers.Activation("relu")(norm(convolution(hidden)))
    hidden = layers.Dropout(0.5, seed=1)(hidden)
    hidden = layers.Flatten()(hidden)
    outputs = layers.Dense(CLASSES, activation="softmax")(hidden)
    model = compiled(kit, pixels, outputs, "sparse_categorical_crossentropy")
    x = np.random.RandomState(3).rand(ROWS, 6, 6, 2).astype("float32")

    def inputs():
        first = convolved(filters[0], cut(x))
        second = convolved(filters[1], rectified(normalised(norms[0], first)))
        return [(norms[0], first), (norms[1], second)]

    return Case(model, x, data()[1], inputs)


def of_one_norm(kit, shape, norm, channel=-1):
    """Batch norm alone on rows of a shape."""
    layers = kit.keras.layers
    inputs = layers.Input(shape)
    model = compiled(kit, inputs, layers.Dense(1)(layers.Flatten()(norm(inputs))))
    x = np.random.RandomState(5).rand(ROWS, *shape).astype("float32")
    moved = np.moveaxis(x, channel, -1)
    return Case(model, x, x.reshape(ROWS, -1)[:, :1], lambda: [(norm, cut(moved))])


def sequences_by_channel(kit):
    return of_one_norm(kit, (5, 3), kit.keras.layers.BatchNormalization(axis=1), 1)


def images_by_channel(kit):
    # the fused kernel wants the channels last on a CPU
    unfused = {"fused": False} if kit.name == "tf.keras" else {}
    norm = kit.keras.layers.BatchNormalization(axis=1, **unfused)
    return of_one_norm(kit, (5, 4, 3), norm, 1)


def sequences(kit):
    return of_one_norm(kit, (4, 3), kit.keras.layers.BatchNormalization())


def shared_layer(kit):
    """Its statistics are those of all its uses."""
    layers = kit.keras.layers
    shared = layers.BatchNormalization(momentum=1.0)
    long, short = layers.Input((7, 3)), layers.Input((2, 3))
    parts = [layers.Flatten()(shared(rows)) for rows in (long, short)]
    model = compiled(kit, [long, short], layers.Dense(1)(layers.concatenate(parts)))
    generator = np.random.RandomState(5)
    first = generator.randn(ROWS, 7, 3).astype("float32")
    second = (generator.rand(ROWS, 2, 3) + 3).astype("float32")
    rows = [first.reshape(-1, 3), second.reshape(-1, 3)]
    return Case(model, [first, second], first[:, 0, :1], lambda: [(shared, rows)])


def nested_twice(kit):
    layers = kit.keras.layers
    innermost, norm = layers.Dense(5, input_shape=(4,)), layers.BatchNormalization()
    inner = kit.keras.Sequential([innermost, norm])
    between, inputs = layers.Input((4,)), layers.Input((FEATURES,))
    middle = kit.keras.Model(between, inner(layers.Activation("relu")(between)))
    first = layers.Dense(4)
    model = compiled(kit, inputs, layers.Dense(1)(middle(first(inputs))))
    x = data()[0]

    def reaching():
        return [(norm, dense(innermost, rectified(dense(first, cut(x)))))]

    return Case(model, x, x[:, :1], reaching)


def time_distributed(kit):
    layers = kit.keras.layers
    inputs, norm = layers.Input((4, 3)), layers.BatchNormalization()
    hidden = layers.Flatten()(layers.TimeDistributed(norm)(inputs))
    model = compiled(kit, inputs, layers.Dense(1)(hidden))
    x = np.random.RandomState(5).rand(ROWS, 4, 3).astype("float32")
    return Case(model, x, x[:, 0, :1], lambda: [(norm, cut(x))])


def stateful_recurrent(kit):
    layers = kit.keras.layers
    inputs, norm = layers.Input(batch_shape=(10, 5, 3)), layers.BatchNormalization()
    hidden = layers.LSTM(4, stateful=True)(norm(inputs))
    model = compiled(kit, inputs, layers.Dense(1)(hidden))
    x = np.random.RandomState(4).randn(ROWS, 5, 3).astype("float32")
    return Case(model, x, x[:, 0, :1], lambda: [(norm, cut(x, 10))], batch_size=10)


def in_parallel(kit, settings):
    """Several kinds of batch norm on one input: a model, and those layers."""
    layers = kit.keras.layers
    inputs = layers.Input((FEATURES,))
    norms = [layers.BatchNormalization(**options) for options in settings]
    merged = layers.concatenate([norm(inputs) for norm in norms])
    return compiled(kit, inputs, layers.Dense(1)(merged)), norms


def any_scale_centre_and_momentum(kit):
    settings = [dict(scale=False), dict(center=False)]
    settings += [dict(momentum=momentum) for momentum in (1.0, 0.5, 0.9999)]
    model, norms = in_parallel(kit, settings)
    x = data()[0]
    return Case(model, x, x[:, :1], lambda: [(norm, cut(x)) for norm in norms])


MODELS = {
    "several inputs and outputs": several_inputs_and_outputs,
    "convolutions": convolutions,
    "sequences by channel": sequences_by_channel,
    "images by channel": images_by_channel,
    "sequences": sequences,
    "shared layer": shared_layer,
    "nested twice": nested_twice,
    "time distributed": time_distributed,
    "stateful recurrent": stateful_recurrent,
    "any scale, centre and momentum": any_scale_centre_and_momentum,
}

# Models of tf.keras alone


def list_of_axes(kit):
    norm = kit.keras.layers.BatchNormalization(axis=[1, 3])
    inputs, layers = kit.keras.Input((2, 3, 4)), kit.keras.layers
    model = compiled(kit, inputs, layers.Dense(1)(layers.Flatten()(norm(inputs))))
    x = np.random.RandomState(1).rand(ROWS, 2, 3, 4).astype("float32")
    # a mean for each pair of places on the axes 1 and 3
    pairs = np.moveaxis(x, 2, 1).reshape(ROWS * 3, 8)
    return Case(model, x, x[:, 0, 0, :1], lambda: [(Flat(norm), [pairs])])


class Flat:
    """A layer whose weights have several axes, read as if they had one."""

    def __init__(self, layer):
        self._layer = layer

    def get_weights(self):
        return [weight.ravel() for weight in self._layer.get_weights()]

    def set_weights(self, weights):
        before = self._layer.get_weights()
        shaped = [new.reshape(old.shape) for new, old in zip(weights, before)]
        self._layer.set_weights(shaped)


def subclassed(kit):
    layers = kit.keras.layers

    class Net(kit.keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(8)
            self.norm = layers.BatchNormalization()
            self.out = layers.Dense(CLASSES, activation="softmax")

        def call(self, inputs):
            return self.out(self.norm(self.hidden(inputs)))

    model, (x, y) = Net(), data()
    model.compile(kit.keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return Case(model, x, y, lambda: [(model.norm, dense(model.hidden, cut(x)))])


def layers_in_lists_and_dicts(kit):
    layers = kit.keras.layers

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
    model, x = compiled(kit, inputs, layers.Dense(1)(block(inputs))), data()[0]

    def reaching():
        found, batches = [], cut(x)
        for norm in block.listed + [block.named["last"]]:
            found.append((norm, batches))
            batches = normalised(norm, batches)
        return found

    return Case(model, x, x[:, :1], reaching)


def subclass_with_a_mask(kit):
    """Batch norm of another signature gets what it is given."""
    layers = kit.keras.layers

    class WithMask(layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            assert mask is not None
            return super().call(inputs, training=training)

    norm, mask = WithMask(), layers.Masking(input_shape=(3, FEATURES))
    model = kit.keras.Sequential([mask, norm, layers.LSTM(2), layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.random.RandomState(2).rand(ROWS, 3, FEATURES).astype("float32") + 1
    return Case(model, x, x[:, 0, :1], lambda: [(norm, cut(x))])


def input_of_dict(kit):
    layers, x = kit.keras.layers, data()[0]

    class Net(kit.keras.Model):
        def __init__(self):
            super().__init__()
            self.norm, self.out = layers.BatchNormalization(), layers.Dense(1)

        def call(self, inputs):
            return self.out(self.norm(inputs["b"]) + inputs["a"])

    model = Net()
    model.compile("sgd", "mse")
    rows = {"b": x + 1, "a": x}
    return Case(model, rows, x[:, :1], lambda: [(model.norm, cut(x + 1))])


TF_MODELS = {
    "list of axes": list_of_axes,
    "subclassed": subclassed,
    "layers in lists and dicts": layers_in_lists_and_dicts,
    "subclass with a mask": subclass_with_a_mask,
    "input of dict": input_of_dict,
}


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
    case, swa, seen = subclassed(tf_kit), tf_kit.SWA(*CYCLIC), recorder(tf_kit)
    fit(case.model, swa, seen, epochs=5)
    assert_statistics_of(case)
    assert_rates(seen.rates, swa, 5)


@both_modes
def test_dropout_drops_in_the_batch_norm_epoch(kit):
    layers = kit.keras.layers
    inputs, norm = layers.Input((FEATURES,)), layers.BatchNormalization()
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
    still, x = norms[1].get_weights(), data()[0]
    fit(model, kit.SWA(2), rows=(x, x[:, :1]))
    assert equal(norms[1].get_weights(), still)
    assert_moments(norms[0], x)
    kit.update_bn(model, x + 1)
    assert equal(norms[1].get_weights(), still)
    assert_moments(norms[0], x + 1)


@both_modes
def test_a_model_whose_batch_norm_is_all_frozen_needs_no_epoch_of_it(kit):
    model, norms = in_parallel(kit, [{"trainable": False}] * 2)
    x, swa, seen = data()[0], kit.SWA(2), recorder(kit)
    fit(model, swa, seen, rows=(x, x[:, :1]))
    assert (swa.n_averaged, swa.batch_norm_epoch) == (3, None)
    assert_averaged(model, seen.weights[1:])


@both_modes
@pytest.mark.parametrize("nested", [False, True], ids=["layer", "nested model"])
def test_a_layer_called_for_inference_keeps_its_statistics(tf_kit, nested):
    layers, x = tf_kit.keras.layers, data()[0]
    inputs = layers.Input((FEATURES,))
    still = layers.BatchNormalization(input_shape=(FEATURES,))
    norm = layers.BatchNormalization()
    called = tf_kit.keras.Sequential([still]) if nested else still
    outputs = layers.Dense(1)(norm(called(inputs, training=False)))
    still.set_weights([weight + 0.5 for weight in still.get_weights()])
    model, seen = compiled(tf_kit, inputs, outputs), recorder(tf_kit)
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

    frozen, norm = Frozen(input_shape=(FEATURES,)), layers.BatchNormalization()
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
    model, swa, x = build(kit), kit.SWA(2), data()[0]
    norm, optimizer = model.layers[1], model.optimizer
    for trainable in (first, not first):
        norm.trainable = trainable
        model.compile(optimizer, "sparse_categorical_crossentropy")
        still, seen = norm.get_weights()[2:], recorder(kit)
        fit(model, swa, seen)
        assert swa.batch_norm_epoch == (4 if trainable else None)
        if trainable:
            assert_averaged(model, seen.weights[SAMPLED], x)
        else:
            assert equal(norm.get_weights()[2:], still)


@both_modes
def test_flags_changed_after_compile_as_in_every_gan(tf_kit):
    layers = tf_kit.keras.layers
    model, seen = build(tf_kit), recorder(tf_kit)
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
    model, plain, swa = build(kit), build(kit), kit.SWA(2)
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

OPTIMIZERS = "SGD RMSprop Adagrad Adadelta Adam Adamax Nadam".split()


@both_modes
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_averages_and_keeps_still_in_the_batch_norm_epoch(kit, name):
    optimizer = getattr(kit.keras.optimizers, name)(learning_rate=0.05)
    model, seen = build(kit, optimizer=optimizer), recorder(kit)
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
    model, weights = build(kit, optimizer=wrap(optimizer), **options), []
    with refused("lr_schedule must be 'manual'"):
        fit(model, kit.SWA(2, "constant", 0.01))
    keep = at(kit, "on_epoch_end", lambda model: weights.append(model.get_weights()))
    fit(model, kit.SWA(2), keep)
    assert_averaged(model, weights[SAMPLED], data()[0])


# Eager mode: run eagerly, and layers within a `tf.function`


@only_eager("has run_eagerly")
@pytest.mark.parametrize("weights", [None, "class_weight", "sample_weight"])
def test_run_eagerly(tf_kit, weights):
    model, swa, seen = build(tf_kit, run_eagerly=True), tf_kit.SWA(2), recorder(tf_kit)
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


def in_function(kit, where):
    """A model whose `tf.function` calls its batch norm."""
    import tensorflow as tf

    layers = kit.keras.layers

    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm = layers.BatchNormalization()

        @tf.function
        def call(self, inputs, training=None):
            return self.norm(inputs, training=training) * 1.0

    class Net(kit.keras.Model):
        def __init__(self):
            super().__init__()
            self.norm, self.out = layers.BatchNormalization(), layers.Dense(1)

        @tf.function
        def call(self, inputs, training=None):
            return self.out(self.norm(inputs, training=training))

    class Norm(layers.BatchNormalization):
        @tf.function
        def call(self, inputs, training=None):
            return super(Norm, self).call(inputs, training=training)

    kinds = {"layer": Block, "batch norm": Norm}
    model = Net()
    if where != "model":
        model = kit.keras.Sequential([kinds[where](), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@only_eager("sees into it")
@pytest.mark.parametrize("where", ["model", "layer", "batch norm"])
def test_a_forward_pass_within_a_function_is_right(tf_kit, where):
    model, x = in_function(tf_kit, where), data()[0]
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

    model, x, seen = build(tf_kit), data()[0], recorder(tf_kit)
    tf.function(lambda rows: model(rows))(tf.constant(x))
    fit(model, tf_kit.SWA(2), seen)
    assert_averaged(model, seen.weights[SAMPLED], x)


# Falls: inputs without a feature axis


def test_inputs_of_rank_one_get_no_axis(tf_kit):
    """Stand-alone Keras adds one in its own `fit`, and then cannot feed them."""
    keras, layers = tf_kit.keras, tf_kit.keras.layers
    first, second = keras.Input(()), keras.Input((1,))
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


@only_eager("makes it a column")
@pytest.mark.parametrize("kind", ["int32", "string", "two"])
def test_an_input_of_one_axis_is_fed_as_it_is(tf_kit, kind):
    import tensorflow as tf

    keras, layers, (_, y) = tf_kit.keras, tf_kit.keras.layers, data()
    codes, norm = np.arange(ROWS) ** 2 % 5, layers.BatchNormalization()
    is_text = kind == "string"
    dtypes = ["int32", "int32"] if kind == "two" else [kind]
    inputs = [keras.Input((), dtype=dtype) for dtype in dtypes]
    as_number = tf.strings.to_number if is_text else tf.identity
    one_hot = layers.Lambda(lambda t: tf.one_hot(tf.cast(as_number(t), "int32"), 5))
    hidden = norm(layers.add([one_hot(inputs[0]), one_hot(inputs[-1])]))
    out = layers.Dense(CLASSES, activation="softmax")(hidden)
    model = keras.Model(inputs, out)
    model.compile("sgd", "sparse_categorical_crossentropy")
    rows = [codes.astype(str if is_text else "i4")] * len(inputs)

    def assert_mean_is_of(count):
        mean = np.eye(5)[codes[:count]].mean(0) * 2
        np.testing.assert_allclose(norm.get_weights()[2], mean, rtol=1e-5)

    swa = tf_kit.SWA(2, validation=(rows, y), validation_rows=rows)
    fit(model, swa, rows=(rows, y))
    assert_mean_is_of(ROWS)
    swa.apply([column[:40] for column in rows])
    assert_mean_is_of(40)
    tf_kit.update_bn(model, rows)
    assert_mean_is_of(ROWS)
