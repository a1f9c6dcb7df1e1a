# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Stochastic Weight Averaging for `tf.keras` of TensorFlow 1.15.

from swa.tfkeras import SWA

model.compile(tf.keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
swa = SWA(start_epoch=75, lr_schedule="constant", swa_lr=0.05)
model.fit(x, y, epochs=100, callbacks=[swa])
"""

try:
    import tensorflow as tf
except ModuleNotFoundError as error:
    raise ImportError(
        f"swa.tfkeras needs TensorFlow 1.15 on Python 3.6 or 3.7, got {error}. Run pip "
        f"install '.[cpu]' in the project's folder; on an NPU take the image's Python."
    ) from None

from swa import batch_norm, callback
from swa.eager import EagerMode
from swa.graph import GraphMode

__all__ = ["SWA", "update_bn"]


def _make_mode(keras, model):
    """The model's mode, as TensorFlow's is now."""
    if tf.executing_eagerly():
        return EagerMode(keras, model)
    return GraphMode(keras, model)


def _updates(model):
    return [*model.get_updates_for(None), *model.get_updates_for(model.inputs)]


class SWA(callback.SWA, tf.keras.callbacks.Callback):
    __doc__ = callback.SWA.__doc__
    _keras = callback.Keras(
        name="tf.keras",
        module=tf.keras,
        make_mode=_make_mode,
        weights=lambda model: list(model.weights),
        updates=_updates,
    )


update_bn = batch_norm.update_bn_of(SWA._keras)
