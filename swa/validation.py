# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The average on held-out rows, epoch by epoch, for the history."""

from swa.rows import Rows, has_static_shapes


class Validation:
    """Evaluates a model as its callback says, once for each new average.

    Args:
      held_out: (x, y) or (x, y, sample_weight) of arrays, or what else the
        model's `evaluate` takes and can take again (a Sequence; a finite data set,
        which makes operations at each evaluation in graph mode).
      training_rows: as for `update_bn`, or None.
      batch_size: int, rows at once of arrays where training does not say; None: 32.

    Raises:
      ValueError: rows that can be read only once, or have no end.
    """

    def __init__(self, held_out, training_rows, batch_size=None):
        is_tuple = isinstance(held_out, (list, tuple))
        if is_tuple and len(held_out) not in (2, 3):
            raise ValueError(
                f"validation must be (x, y) or (x, y, sample_weight), got "
                f"{len(held_out)} items."
            )
        for name, rows in ("validation", held_out), ("validation_rows", training_rows):
            if rows is not None and Rows(rows).is_spent_once_read:
                kind = type(rows).__name__
                raise ValueError(
                    f"{name} must be rows that can be read again, arrays "
                    f"or a Sequence, got {kind}."
                )
        self._x, *self._targets = held_out if is_tuple else [held_out]
        self._training_rows, self._batch_size = training_rows, batch_size or 32
        self._results, self._n_averaged = {}, 0

    def begin(self, model, params, has_batch_norm):
        """Starts anew; refuses what cannot be evaluated, before training.

        Args:
          model: a built model.
          params: dict, Keras's: arrays are evaluated as many rows at once as trained.
          has_batch_norm: bool, whether the average needs statistics of its own.

        Raises:
          ValueError: no rows for the statistics; batches that an NPU cannot take.
        """
        self._results, self._n_averaged = {}, 0
        self._size = params.get("batch_size") or self._batch_size
        if has_batch_norm and self._training_rows is None:
            raise ValueError(
                f"validation_rows must be given with validation and batch "
                f"normalization: averaged weights need statistics of their own, got "
                f"{self._training_rows}. Give training rows, all or some."
            )
        if not has_static_shapes():
            return
        given = {"validation": self._x}
        if has_batch_norm:
            given["validation_rows"] = self._training_rows
        for name, rows in given.items():
            for _ in Rows(rows, self._size, name=name).batches(model):
                pass  # one of unequal size is refused

    def logs(self, swa):
        """dict: swa_loss and swa_<metric>; empty before the first sample."""
        has_passed = swa.batch_norm_epoch is not None  # with its final statistics
        if has_passed or swa.n_averaged != self._n_averaged:
            rows = None if has_passed else self._training_rows
            with swa.average_applied(rows, self._size):
                results = self._evaluated(swa.model)
            names = [f"swa_{name}" for name in swa.model.metrics_names]
            self._results, self._n_averaged = dict(zip(names, results)), swa.n_averaged
        return dict(self._results)

    def _evaluated(self, model):
        options = dict(zip(("y", "sample_weight"), self._targets))
        if self._targets:
            options["batch_size"] = self._size
        is_stopping = model.stop_training  # `evaluate` sets it to False
        try:
            results = model.evaluate(self._x, verbose=0, **options)
        finally:
            model.stop_training = is_stopping
        return [float(r) for r in (results if isinstance(results, list) else [results])]
