# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Every kind of model, and the rows that reach its batch-norm layers, by numpy.

A new kind is a function of a kit that returns a `Case`, and a line of `MODELS`, or of
`TF_MODELS` where stand-alone Keras has no such thing. test_models runs them all.
"""

from typing import Any, Callable, List, NamedTuple, Tuple

import numpy as np

from support.callback_kit import (
    BATCH,
    CLASSES,
    EPSILON,
    FEATURES,
    ROWS,
    batches_of,
    compiled,
    data,
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
    left = layers.Input((FEATURES,), name="z")
    right = layers.Input((4,), name="a")
    of_left = layers.Dense(5)
    of_right = layers.Dense(3)
    first, second, both = [layers.BatchNormalization() for _ in range(3)]
    mix = layers.Dense(4)
    first_output = first(of_left(left))
    second_output = second(of_right(right))
    joint = both(mix(layers.concatenate([first_output, second_output])))
    outputs = [layers.Dense(1)(joint), layers.Dense(2)(first_output)]
    model = compiled(kit, [left, right], outputs, **options)
    x = data()[0]
    other = np.random.RandomState(2).randn(ROWS, 4).astype("float32")

    def inputs():
        lefts = dense(of_left, cut(x))
        rights = dense(of_right, cut(other))
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
    long = layers.Input((7, 3))
    short = layers.Input((2, 3))
    parts = [layers.Flatten()(shared(rows)) for rows in (long, short)]
    model = compiled(kit, [long, short], layers.Dense(1)(layers.concatenate(parts)))
    generator = np.random.RandomState(5)
    first = generator.randn(ROWS, 7, 3).astype("float32")
    second = (generator.rand(ROWS, 2, 3) + 3).astype("float32")
    rows = [first.reshape(-1, 3), second.reshape(-1, 3)]
    return Case(model, [first, second], first[:, 0, :1], lambda: [(shared, rows)])


def nested_twice(kit):
    layers = kit.keras.layers
    innermost = layers.Dense(5, input_shape=(4,))
    norm = layers.BatchNormalization()
    inner = kit.keras.Sequential([innermost, norm])
    between = layers.Input((4,))
    inputs = layers.Input((FEATURES,))
    middle = kit.keras.Model(between, inner(layers.Activation("relu")(between)))
    first = layers.Dense(4)
    model = compiled(kit, inputs, layers.Dense(1)(middle(first(inputs))))
    x = data()[0]

    def reaching():
        return [(norm, dense(innermost, rectified(dense(first, cut(x)))))]

    return Case(model, x, x[:, :1], reaching)


def time_distributed(kit):
    layers = kit.keras.layers
    inputs = layers.Input((4, 3))
    norm = layers.BatchNormalization()
    hidden = layers.Flatten()(layers.TimeDistributed(norm)(inputs))
    model = compiled(kit, inputs, layers.Dense(1)(hidden))
    x = np.random.RandomState(5).rand(ROWS, 4, 3).astype("float32")
    return Case(model, x, x[:, 0, :1], lambda: [(norm, cut(x))])


def stateful_recurrent(kit):
    layers = kit.keras.layers
    inputs = layers.Input(batch_shape=(10, 5, 3))
    norm = layers.BatchNormalization()
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
    inputs = kit.keras.Input((2, 3, 4))
    layers = kit.keras.layers
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

    model = Net()
    (x, y) = data()
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

    block = Block()
    inputs = layers.Input((FEATURES,))
    model = compiled(kit, inputs, layers.Dense(1)(block(inputs)))
    x = data()[0]

    def reaching():
        found = []
        batches = cut(x)
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

    norm = WithMask()
    mask = layers.Masking(input_shape=(3, FEATURES))
    model = kit.keras.Sequential([mask, norm, layers.LSTM(2), layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.random.RandomState(2).rand(ROWS, 3, FEATURES).astype("float32") + 1
    return Case(model, x, x[:, 0, :1], lambda: [(norm, cut(x))])


def input_of_dict(kit):
    layers = kit.keras.layers
    x = data()[0]

    class Net(kit.keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = layers.BatchNormalization()
            self.out = layers.Dense(1)

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


# A `tf.function`


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
            self.norm = layers.BatchNormalization()
            self.out = layers.Dense(1)

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
