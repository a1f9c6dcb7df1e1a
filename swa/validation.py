# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The average on held-out rows, epoch by epoch, for the history."""

from swa.rows import Rows


class Validation:
    """Evaluates a model as its callback says, once for each new average.

    Args:
      held_out: (x, y) or (x, y, sample_weight) of arrays, or what else the
        model's `evaluate` takes and can take again (a Sequence; a finite data set,
        which makes operations at each evaluation in graph mode).
      training_rows: as for `update_bn`, or None.

    Raises:
      ValueError: rows that can be read only once, or have no end.
    """

    def __init__(self, held_out, training_rows):
        _check_repeatable("validation", held_out)
        if training_rows is not None:
            _check_repeatable("validation_rows", training_rows)
        self._held_out = tuple(held_out) if isinstance(held_out, list) else held_out
        self._training_rows = training_rows
        self._results = {}  # of the newest average
        self._n_averaged = 0  # in it

    @classmethod
    def made(cls, held_out, training_rows):
        """A Validation, or None where nothing is held out."""
        return None if held_out is None else cls(held_out, training_rows)

    def check(self, has_batch_norm):
        """Raises ValueError where the average would lack its statistics."""
        if has_batch_norm and self._training_rows is None:
            raise ValueError(
                "validation_rows must be given with validation and batch "
                "normalization: averaged weights need statistics of their own, got "
                "None. Give training rows, all or some."
            )

    def begin(self):
        """The state of a run that has not begun."""
        self._results, self._n_averaged = {}, 0

    def logs(self, swa, batch_size):
        """dict: swa_loss and swa_<metric>; empty before the first sample."""
        has_passed = swa.batch_norm_epoch is not None
        if swa.n_averaged != self._n_averaged or has_passed:
            # after the pass the model has its final statistics
            rows = None if has_passed else self._training_rows
            with swa.average_applied(rows, batch_size):
                results = self._evaluated(swa.model, batch_size)
            names = swa.model.metrics_names
            self._results = {f"swa_{n}": value for n, value in zip(names, results)}
            self._n_averaged = swa.n_averaged
        return dict(self._results)

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


def _check_repeatable(name, rows):
    """Refuses what the second evaluation could not read."""
    if name == "validation" and isinstance(rows, (list, tuple)):
        if len(rows) not in (2, 3):
            raise ValueError(
                f"{name} must be (x, y) or (x, y, sample_weight), got {len(rows)} "
                f"items."
            )
        return
    try:
        is_spent = Rows(rows).is_spent_once_read
    except ValueError:
        is_spent = True
    if is_spent:
        raise ValueError(
            f"{name} must be rows that end and can be read again, arrays or a "
            f"Sequence for example, got {type(rows).__name__}."
        )
