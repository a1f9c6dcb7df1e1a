# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Stochastic Weight Averaging for stand-alone Keras 2.3.1 on TensorFlow 1.15.

    from swa.keras import SWA

The same as `swa.tfkeras`, for models of the package `keras`.
"""

import keras  # the package, not this file

from swa import batch_norm, callback
from swa.graph import GraphMode

__all__ = ["SWA", "update_bn"]


class SWA(callback.SWA, keras.callbacks.Callback):
    __doc__ = callback.SWA.__doc__
    _keras = callback.Keras(
        name="keras",
        module=keras,
        mode=GraphMode,  # whatever TensorFlow's mode
        weights=lambda model: [w for layer in model.layers for w in layer.weights],
        updates=lambda model: list(model.updates),
    )


update_bn = batch_norm.update_bn_of(SWA._keras)
