# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Stochastic Weight Averaging for stand-alone Keras 2.3.1 on TensorFlow 1.15.

    from swa.keras import SWA

The same as `swa.tfkeras`, for models of the package `keras`.
"""

from __future__ import absolute_import  # `keras` is the package, not this file

from typing import Any, Optional

import keras

from swa import batch_norm, callback

__all__ = ["SWA", "update_bn"]


def _metric_updates(model):
    """Keras 2.3.1 updates its metrics in the train function."""
    return [update for metric in model.metrics for update in metric.updates]


_KERAS = callback.Keras(
    name="keras",
    backend=keras.backend,
    model_class=keras.Model,
    callback_class=keras.callbacks.Callback,
    is_eager=lambda: False,  # Keras 2.3.1 builds graphs whatever TensorFlow's mode
    weights=lambda model: [w for layer in model.layers for w in layer.weights],
    updates=lambda model: list(model.updates),
    metric_updates=_metric_updates,
)


class SWA(callback.SWA, keras.callbacks.Callback):
    __doc__ = callback.SWA.__doc__
    _keras = _KERAS


def update_bn(
    model: keras.Model,
    x: Any,
    batch_size: int = 32,
    ranks: Any = None,
    steps: Optional[int] = None,
) -> None:
    """Gives every trainable batch-norm layer the statistics of all rows of `x`.

    The same as `swa.tfkeras.update_bn`, for a `keras` model.

    Args:
      model: a built `keras` model, with weights from anywhere.
      x, batch_size, ranks, steps: as there.

    Raises:
      ValueError: as there.
    """
    batch_norm.update_bn(
        _KERAS, model, x, batch_size=batch_size, ranks=ranks, steps=steps
    )
