# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Batch-norm layers as users make them: subclasses of Keras's, and their own.

A subclass that hands its inputs on to Keras's layer is a function of a kit, and a line
of `HANDING_ON`. test_batch_norm_kinds has their tests.
"""

from support.callback_kit import FEATURES


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


# shapes that Keras's layer does not fuse, and fuses
UNFUSED, FUSED = (FEATURES,), (2, 2, 3)
HANDING_ON = [
    (as_mask_rcnn, UNFUSED),
    (by_name, FUSED),
    (without_call, UNFUSED),
    (of_a_subclass, FUSED),
]


def of_some_rows(kit):
    """A layer that normalises and learns from the first ten rows of a batch alone."""

    class Some(kit.keras.layers.BatchNormalization):
        def call(self, inputs, training=None):
            chosen = super().call(inputs[:10] + 2.0, training=training)
            return inputs + kit.keras.backend.mean(chosen)

    return Some(name="some")


def home_made(kit):
    """A user's batch norm."""
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
            mean, variance = tf.nn.moments(inputs, [0])
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
