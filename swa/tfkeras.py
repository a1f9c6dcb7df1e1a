# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Stochastic Weight Averaging for `tf.keras` of TensorFlow 1.15.

from swa.tfkeras import SWA

swa = SWA(start_epoch=75, lr_schedule="cyclic", swa_lr=0.001, swa_lr2=0.003,
          swa_freq=3, verbose=1)
model.fit(x, y, epochs=100, callbacks=[swa])
"""

from typing import Any, Optional

import tensorflow as tf

from swa import batch_norm, callback

__all__ = ["SWA", "update_bn"]


def _updates(model):
    """The layers' updates in graph mode, nested models included."""
    return list(model.get_updates_for(None)) + list(model.get_updates_for(model.inputs))


_KERAS = callback.Keras(
    name="tf.keras",
    backend=tf.keras.backend,
    model_class=tf.keras.Model,
    callback_class=tf.keras.callbacks.Callback,
    is_eager=tf.executing_eagerly,
    weights=lambda model: list(model.weights),
    updates=_updates,
    metric_updates=lambda model: [],  # fetched results update the metrics
)


class SWA(callback.SWA, tf.keras.callbacks.Callback):
    __doc__ = callback.SWA.__doc__
    _keras = _KERAS


def update_bn(
    model: tf.keras.Model,
    x: Any,
    batch_size: int = 32,
    ranks: Any = None,
    steps: Optional[int] = None,
) -> None:
    """Gives every trainable batch-norm layer the statistics of all rows of `x`.

    mean and (population) variance of each layer's inputs, whatever the batches;
    one forward pass in training mode, no other weight changes. Frozen layers are
    left as they are.

    Args:
      model: a built `tf.keras` model, with weights from anywhere.
      x: array (rows x features...), frame, HDF5 matrix or tensor; list, tuple or
        dict of such; a `Sequence`, a data set, or an iterable of batches. Of (x, y)
        and (x, y, sample_weight) tuples x is taken.
      batch_size: int >= 1, rows per batch where `x` is arrays.
      ranks: as of `SWA`: the statistics are those of all processes' rows.
      steps: int >= 1, batches to take of `x`; needed where `x` has no end.

    Raises:
      ValueError: `x` without rows, with NaN or Inf, without end and no `steps`, or
        not as the model's inputs; `batch_size` below 1; a layer whose statistics are
        of another kind. The model is then as before.

    Reference:
      Izmailov et al., 2018, section 3.2 (arXiv:1803.05407).
    """
    batch_norm.update_bn(
        _KERAS, model, x, batch_size=batch_size, ranks=ranks, steps=steps
    )
