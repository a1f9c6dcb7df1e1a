# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The average on held-out rows, epoch by epoch, for the history."""

import numpy as np

from swa.rows import Rows, has_static_shapes, is_endless

__all__ = ["Validation", "optional_validation"]


def optional_validation(held_out, training_rows, batch_size):
    """The Validation that arguments of `SWA` ask for; None where they ask for none.

    Args:
      held_out, training_rows, batch_size: as of Validation, or None.

    Raises:
      ValueError: rows for the statistics, and nothing to evaluate on.
    """
    if held_out is not None:
        return Validation(held_out, training_rows, batch_size)
    if training_rows is not None:
        raise ValueError(
            f"validation must be given with validation_rows, which serve it alone, got "
            f"{held_out}."
        )
    return None


class Validation:
    """Evaluates a model with the average in it, once for each new average.

    Args:
      held_out: (x, y) or (x, y, sample_weight) of arrays, or what else the model's
        `evaluate` takes and can read again: a Sequence or a finite data set. A data
        set adds operations to the graph at each evaluation.
      training_rows: as for `update_bn`, or None.
      batch_size: int, rows per batch of arrays where `fit` has no batch size;
        None: 32.

    Raises:
      ValueError: rows that can be read only once, or have no end.
    """

    def __init__(self, held_out, training_rows, batch_size=None):
        has_targets = isinstance(held_out, (list, tuple))
        if has_targets and len(held_out) not in (2, 3):
            raise ValueError(
                f"validation must be (x, y) or (x, y, sample_weight), got "
                f"{len(held_out)} items."
            )
        for name, rows in ("validation", held_out), ("validation_rows", training_rows):
            if rows is not None and (is_endless(rows) or Rows(rows).is_spent_once_read):
                raise ValueError(
                    f"{name} must be rows that end and can be read again, as arrays, a "
                    f"Sequence or dataset.take(n) can, got {type(rows).__name__}."
                )
        self._x, *self._targets = held_out if has_targets else [held_out]
        self._training_rows = training_rows
        self._batch_size = batch_size or 32
        self._results = {}
        self._n_averaged = 0  # samples in the average that `_results` are of

    def begin(self, model, params, has_batch_norm):
        """Starts anew; refuses what cannot be evaluated, before training.

        Args:
          model: a built model.
          params: dict, Keras's. Arrays are evaluated with the batch size of `fit`.
          has_batch_norm: bool, whether the average needs statistics of its own.

        Raises:
          ValueError: no rows for the statistics, or a first batch of them that the
            model cannot take; on an NPU, arrays that do not fill their last batch.
        """
        self._results = {}
        self._n_averaged = 0
        self._size = params.get("batch_size") or self._batch_size
        if has_static_shapes():
            Rows(self._x, self._size, name="validation").batches(model)
        if has_batch_norm:
            if self._training_rows is None:
                raise ValueError(
                    f"validation_rows must be given with validation and batch "
                    f"normalization: averaged weights need statistics of their own, "
                    f"got {self._training_rows}. Give training rows, all or some."
                )
            rows = Rows(self._training_rows, self._size, name="validation_rows")
            next(rows.batches(model))

    def logs(self, model, n_averaged, has_passed, average_applied):
        """The metrics of the average; evaluates it where it is a new one.

        Args:
          model: the model that trains.
          n_averaged: int, samples in the average.
          has_passed: bool, whether the model has the average with its final
            statistics.
          average_applied: function (rows, batch_size) that returns a context in which
            the model has the average with the statistics of the rows. With None for
            rows it keeps the statistics that it has.

        Returns:
          dict: swa_loss and swa_<metric>; empty before the first sample.
        """
        if has_passed or n_averaged != self._n_averaged:
            rows = None if has_passed else self._training_rows
            with average_applied(rows, self._size):
                results = self._evaluated(model)
            names = [f"swa_{name}" for name in model.metrics_names]
            self._results = dict(zip(names, results))
            self._n_averaged = n_averaged
        return dict(self._results)

    def _evaluated(self, model):
        options = dict(zip(("y", "sample_weight"), self._targets))
        if self._targets:
            options["batch_size"] = self._size
        is_stopping = model.stop_training  # because `evaluate` sets it to False
        try:
            results = model.evaluate(self._x, verbose=0, **options)
        finally:
            model.stop_training = is_stopping
        return [float(result) for result in np.ravel(results)]
