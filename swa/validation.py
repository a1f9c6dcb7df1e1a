# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The average on held-out rows, epoch by epoch, for the history."""

import math


class Validation:
    """Evaluates a model as its callback says, once for each new average.

    Args:
      held_out: (x, y) or (x, y, sample_weight) of arrays, or what else the
        model's `evaluate` takes (a Sequence; a data set makes operations at
        each evaluation in graph mode).
      training_rows: as for `update_bn`, or None.
    """

    def __init__(self, held_out, training_rows):
        self._held_out = held_out
        self._training_rows = training_rows
        self._results = None  # of the newest average
        self._n_averaged = 0  # in it

    def check(self, has_batch_norm):
        """Raises ValueError where the average would lack its statistics."""
        if has_batch_norm and self._training_rows is None:
            raise ValueError(
                "validation_rows must be given with validation and batch "
                "normalization: averaged weights need statistics of their own, got "
                "None. Give training rows, all or some."
            )

    def forget(self):
        """The state of a run that has not begun."""
        self._results, self._n_averaged = None, 0

    def logs(self, swa, batch_size):
        """dict: swa_loss and swa_<metric>; nan before the first sample."""
        is_new = swa.n_averaged != self._n_averaged
        if is_new or (swa.batch_norm_epoch is not None and swa.n_averaged):
            with swa.average_applied(self._training_rows, batch_size):
                self._results = self._evaluated(swa.model, batch_size)
            self._n_averaged = swa.n_averaged
        names = swa.model.metrics_names
        results = self._results or [math.nan] * len(names)
        return {f"swa_{name}": result for name, result in zip(names, results)}

    def _evaluated(self, model, batch_size):
        is_stopping = model.stop_training  # `evaluate` sets it to False
        try:
            if isinstance(self._held_out, tuple):
                weights = self._held_out[2] if len(self._held_out) > 2 else None
                results = model.evaluate(
                    *self._held_out[:2],
                    batch_size=batch_size,
                    sample_weight=weights,
                    verbose=0,
                )
            else:
                results = model.evaluate(self._held_out, verbose=0)
        finally:
            model.stop_training = is_stopping
        return [float(r) for r in (results if isinstance(results, list) else [results])]
