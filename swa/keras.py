# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Stochastic Weight Averaging for stand-alone Keras 2.3.1 on TensorFlow 1.15.

    from swa.keras import SWA

The same as `swa.tfkeras`, for models of the package `keras`.
"""

try:
    import keras  # the package, not this file
except ModuleNotFoundError as error:
    raise ImportError(
        f"swa.keras needs Keras 2.3.1 and TensorFlow 1.15 on Python 3.6 or 3.7, got "
        f"{error}. Run pip install '.[cpu,keras]' in the project's folder."
    ) from None

from swa import batch_norm, callback
from swa.graph import GraphMode
from swa.layers import batch_norms_of
from swa.moment_search import leaves

__all__ = ["SWA", "update_bn"]


def _check_updates(model):
    """Refuses a batch norm that another layer calls on values of its own.

    Keras runs only the updates that depend on the inputs of one of the model's layers.
    It never updates the batch norm of an RNN's cell, for example.

    Args:
      model: a Keras model.

    Raises:
      ValueError: the model has such a batch norm, and it is not frozen.
    """
    updates = leaves(list(model.updates))
    for layer in batch_norms_of(model, only_trainable=True):
        layer_updates = leaves(layer.updates)
        if layer_updates and set(layer_updates).isdisjoint(updates):
            raise ValueError(
                f"batch-norm layer {layer.name!r} must be called by the model itself "
                f"in stand-alone Keras, which does not update it within another layer. "
                f"Use tf.keras, or freeze it before compile()."
            )


class KerasMode(GraphMode):
    """Graph mode, whatever TensorFlow's mode: Keras 2.3.1 has no other."""

    def _find_layers(self, updates):
        _check_updates(self.model)
        return super()._find_layers(updates)


def _weights(model):
    return [weight for layer in model.layers for weight in layer.weights]


class SWA(callback.SWA, keras.callbacks.Callback):
    __doc__ = callback.SWA.__doc__
    _keras = callback.Keras(
        name="keras",
        module=keras,
        make_mode=KerasMode,
        weights=_weights,
        updates=lambda model: list(model.updates),
    )


update_bn = batch_norm.update_bn_of(SWA._keras)
