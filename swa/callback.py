# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The callback, the same for `tf.keras` and stand-alone Keras.

A binding (`swa.tfkeras`, `swa.keras`) mixes `SWA` with its own Callback class and
says in a `Keras` how its models are asked. Epochs count from zero inside.
"""

import contextlib
import gc
import math
import weakref
from collections import namedtuple
from typing import Any, Callable, Dict, Iterator, List, Optional

import numpy as np
import tensorflow as tf

from swa import batch_norm, exchange, moments, rates, schedules
from swa.rows import Rows
from swa.run import PASS, WAITING, Options, Run, check_state
from swa.validation import Validation

__all__ = ["Keras", "SWA"]

# What a binding knows about its Keras: its name, as users write it; its module; and
# functions: () -> whether it is eager; of a model -> its variables in `get_weights()`
# order; -> its layers' updates, frozen ones left out.
Keras = namedtuple("Keras", "name module is_eager weights updates")


_RUNS = weakref.WeakSet()  # those whose weights are still held
_HELD = 1 << 22  # bytes of averages from which on a collection of 0.1 s is worth it


class SWA:
    """Averages the weights along the tail of training; sets them at its end.

    swa_weights = (w_1 + ... + w_n) / n, one sample every `swa_freq` epochs from
    `start_epoch` on. With batch normalization the last epoch is a forward-only
    pass in which the averaged weights get the statistics of all its rows: no
    weight, no optimizer slot and no `iterations` changes in it, its rate is 0.
    Without, the average is set when training ends.

    Example:

      import numpy as np
      import tensorflow as tf
      from swa.tfkeras import SWA

      layers = tf.keras.layers
      model = tf.keras.Sequential([
          layers.Dense(8, activation="relu", input_shape=(6,)),
          layers.BatchNormalization(),
          layers.Dense(3, activation="softmax"),
      ])
      model.compile(tf.keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
      x, y = np.random.randn(64, 6), np.random.randint(0, 3, 64)
      swa = SWA(start_epoch=6, lr_schedule="constant", swa_lr=0.05)
      model.fit(x, y, epochs=10, verbose=0, callbacks=[swa])
      assert swa.n_averaged == 4 and swa.batch_norm_epoch == 10

    Args:
      start_epoch: int >= 2, counted from one; below `epochs`.
      lr_schedule: 'manual' (the rate is yours), 'constant' (anneal to `swa_lr`
        and stay) or 'cyclic' (then fall from `swa_lr2` to `swa_lr` in each
        cycle of `swa_freq` epochs). See `swa.schedules.epoch_rates`.
      swa_lr: float > 0 or 'auto' (a tenth of the compiled rate). Measured in
        docs/results.md, 'constant' gained with the compiled rate itself and not with
        'auto': try that rate first.
      swa_lr2: float > 0 or 'auto' (a quarter of the way from swa_lr to the
        compiled rate).
      swa_freq: int >= 1, epochs per sample; >= 2 with 'cyclic'.
      batch_size: accepted for code written for keras-swa; not needed. `validation`
        alone reads it, where training tells no batch size; None: 32.
      verbose: 0 silent, 1 announces each stage.
      snapshot: 'cycle_start' (the reference's phase: first epoch of a cycle) or
        'cycle_end' (the paper's: where the rate is lowest; the first epoch averaged
        is then start_epoch + swa_freq - 1).
      validation: (x, y) or (x, y, sample_weight) of arrays, a Sequence or a finite
        data set: the average is evaluated on it after each sample, and each epoch's
        logs and history from the first sample on get swa_loss and swa_<metric>.
      validation_rows: training rows, as `update_bn` takes them; needed for
        `validation` with batch normalization.
      ranks: for training in several processes whose gradients are averaged: a
        function of a list of arrays (float or int64) that returns the sum of
        each over all processes, or an object with such a method `sum`. The
        statistics are then those of all processes' rows. Each process must run
        equally many batches.
      avg_fn: function (mean, weights, n_averaged) -> new mean, of arrays of one
        weight, `n_averaged` samples being in the mean before; None: equal weights,
        mean + (weights - mean) / (n_averaged + 1). Not part of `state`.

    Attributes:
      lr: float, the rate of the current batch.
      n_averaged: int, samples in the average.
      n_skipped: int, samples left out since they held NaN or Inf.
      averaged_weights: list of arrays, in `model.get_weights()` order.
      batch_norm_epoch: int counted from one, or None: the forward-only epoch.

    Raises:
      ValueError: an argument out of its range; when training begins,
        `start_epoch` not below `epochs`, no epoch to be sampled, `swa_lr` above the
        compiled rate, a second SWA in the same `fit`, or a model or an optimizer
        that cannot be averaged.

    Reference:
      Izmailov et al., 2018, Averaging Weights Leads to Wider Optima and Better
      Generalization (arXiv:1803.05407).
    """

    _keras = None  # the binding's Keras

    def __init__(
        self,
        start_epoch: int,
        lr_schedule: str = "manual",
        swa_lr: schedules.Rate = "auto",
        swa_lr2: schedules.Rate = "auto",
        swa_freq: int = 1,
        batch_size: Optional[int] = None,
        verbose: int = 0,
        snapshot: str = "cycle_start",
        validation: Any = None,
        validation_rows: Any = None,
        ranks: Any = None,
        avg_fn: Optional[Callable[..., np.ndarray]] = None,
    ) -> None:
        super().__init__()
        if not tf.__version__.startswith("1.15"):
            raise RuntimeError(f"swa needs TensorFlow 1.15, found {tf.__version__}.")
        given = start_epoch, lr_schedule, swa_lr, swa_lr2, swa_freq, snapshot
        self.settings = schedules.checked(*given)
        self.batch_size, self.verbose = batch_size, verbose
        if validation is not None:
            validation = Validation(validation, validation_rows, batch_size)
        given = self.settings, moments.summing(ranks), validation, avg_fn
        self._options = Options(*given)
        self._run = self._guard = None  # the last Run that began; its Guard while open
        self._compiled_rate = math.nan  # before any callback's on_train_begin
        self._loaded = None  # a state that waits for its run

    # What users read and call

    @property
    def lr(self) -> float:
        """float: the learning rate of the current batch (nan: no model yet)."""
        if self._guard is not None:
            return self._run.rates.now
        return rates.rate_of(self._keras, getattr(self.model, "optimizer", None))

    @property
    def n_averaged(self) -> int:
        """int: samples in the average."""
        return self._count("n_averaged")

    @property
    def n_skipped(self) -> int:
        """int: samples left out since they held NaN or Inf."""
        return self._count("n_skipped")

    @property
    def batch_norm_epoch(self) -> Optional[int]:
        """int counted from one: the forward-only epoch; None: there was none."""
        return self._run.batch_norm_epoch if self._run else None

    @property
    def averaged_weights(self) -> List[np.ndarray]:
        """List of numpy arrays in `model.get_weights()` order."""
        run = self._run_with_average()
        return [
            np.array(own if mean is None else mean)  # an integer weight has no mean
            for own, mean in zip(run.step.read(), run.averaged())
        ]

    def plan(
        self,
        epochs: int,
        batches_per_epoch: int,
        learning_rate: Optional[float] = None,
        batch_norm: Optional[bool] = None,
    ) -> schedules.Plan:
        """The rate of each batch and the epochs sampled, without training.

        Args:
          epochs: int above start_epoch.
          batches_per_epoch: int >= 1.
          learning_rate: float, the compiled rate; None: that of the model the
            callback was given, else nan, and so are rates that depend on it.
          batch_norm: bool; None: as in the model the callback was given.

        Returns:
          `swa.schedules.Plan`.

        Raises:
          ValueError: what a `fit` of these epochs would be refused for.
        """
        if learning_rate is None:
            learning_rate = self._run.rates.base if self._run else self.lr
        if batch_norm is None:
            batch_norm = bool(self._run and self._run.statistics.layers)
        given = self.settings, epochs, batches_per_epoch, learning_rate
        return schedules.plan(*given, batch_norm)

    def apply(self, x: Any = None, batch_size: int = 32, steps: int = None) -> None:
        """Makes the average the model's weights; `restore` undoes it.

        Args:
          x: training rows as for `update_bn`; needed with batch normalization.
          batch_size: int, rows per batch where `x` is arrays.
          steps: int, batches to take of `x`; needed where `x` has no end.

        Raises:
          ValueError: no average yet, batch normalization and no `x`, or rows that
            cannot be used. The model is then as before.
        """
        run = self._run_with_average()
        if self._guard is not None and self._guard.is_cut_off():
            self._give_back()
        if run.statistics.layers and x is None:
            raise ValueError(
                f"x must be given for a model with batch normalization: "
                f"averaged weights need statistics of their own, got "
                f"{x!r}."
            )
        with run.weights.lent(keeps=True):
            self._place_average(x, batch_size, steps)

    def restore(self) -> None:
        """Gives back the trained weights, the rate and the train function.

        What the user has changed since SWA set it stays as it is. Called within a
        `fit`, by a callback, it gives back the weights alone, and in the midst of
        the forward-only epoch, which needs the average, nothing.
        """
        if not exchange.lists_on_stack(self):
            self._give_back()
        elif self._run is not None and self._run.stage is not PASS:
            self._run.weights.give_back()

    @contextlib.contextmanager
    def average_applied(
        self, x: Any = None, batch_size: int = 32, steps: int = None
    ) -> Iterator[None]:
        """Within it the model has the averaged weights; exact restore after.

        Args:
          x: training rows for matching batch-norm statistics; without them the
            statistics are the average of the trained ones, or those of the pass.
          batch_size: int, rows per batch where `x` is arrays.
          steps: int, batches to take of `x`; needed where `x` has no end.

        Raises:
          ValueError: no average yet, or rows that cannot be used.
        """
        run = self._run_with_average()
        with run.weights.lent():
            if x is not None or not run.weights.is_average_there:
                self._place_average(x, batch_size, steps)
            yield

    @contextlib.contextmanager
    def trained_weights(self) -> Iterator[None]:
        """Within it the model has the last trained weights and statistics."""
        trained = self._run.weights.trained if self._run else None
        if trained is None:
            yield
            return
        with self._run.weights.lent():
            self._run.step.put(trained)
            yield

    def get_config(self) -> Dict[str, Any]:
        """dict: the constructor's plain arguments."""
        others = dict(batch_size=self.batch_size, verbose=self.verbose)
        return dict(self.settings._asdict(), **others)

    @property
    def state(self) -> Dict[str, Any]:
        """dict of plain values and numpy arrays, for `load_state`."""
        if self._loaded is not None:
            return dict(self._loaded)
        run = self._run
        return {
            "settings": dict(self.settings._asdict()),
            "learning_rate": run.rates.base if run else math.nan,
            "batches_per_epoch": run.progress.counted if run else 0,
            "n_averaged": self.n_averaged,
            "n_skipped": self.n_skipped,
            "average": [np.array(m) for m in run.average.mean] if run else [],
        }

    def load_state(self, state: Dict[str, Any]) -> None:
        """Goes on from a `state`: the next `fit` continues that training.

        Args:
          state: dict, as the property `state` gave it.

        Raises:
          ValueError: the state is no such dict, of other settings or, once the model
            is known, of another model, each by name.
        """
        missing = [name for name in self.state if name not in state]
        if missing:
            raise ValueError(
                f"state must be what SWA.state gives, got a dict without {missing}."
            )
        for name, value in self.settings._asdict().items():
            other = state["settings"].get(name)
            if other != value:
                raise ValueError(f"state must have {name} {value!r}, got {other!r}.")
        if self._run is not None and self._run.stage is not WAITING:
            check_state(state, self._run.step)
        self._loaded = dict(state)

    # Keras's hooks, as the stages of `swa.run.Run` follow each other

    def set_model(self, model: Any) -> None:
        """Called before any callback's `on_train_begin`: the rate is the compiled."""
        super().set_model(model)
        if isinstance(model, self._keras.module.Model):
            optimizer = getattr(model, "optimizer", None)
            self._compiled_rate = rates.rate_of(self._keras, optimizer)

    def on_train_begin(self, logs=None):
        """Refuses what cannot work before anything is changed; starts anew."""
        check_model(self._keras, self.model, self.settings)
        exchange.check_alone(self, self.model)
        if self._guard is not None:
            self._give_back()  # of a fit of this callback that was cut off
        self._run = self._begun(self._loaded)
        self._guard = exchange.Guard(self, self.model, self._run.step.follow)
        self._guard.open()
        if self._run.step.sets_rate_by_batch and self._run.rates.sets_rate:
            self._insist_last()

    def on_epoch_begin(self, epoch, logs=None):
        """Says where averaging starts."""
        self._run.begin_epoch(epoch, self.params)

    def on_batch_begin(self, batch, logs=None):
        """Begins the pass or the rates of an epoch with its first batch."""
        self._run.begin_batch(batch)

    def on_batch_end(self, batch, logs=None):
        """Counts the batches that ran."""
        self._loaded = None  # nothing can be refused any more
        self._run.end_batch()

    def on_test_begin(self, logs=None):
        """Ends the pass: validation follows the last batch."""
        if self._guard is not None:  # else `evaluate`, with this as its callback
            self._run.end_batches()

    def on_epoch_end(self, epoch, logs=None):
        """Takes the sample; turns an early stop into the pass."""
        if self._guard.is_failing():
            return
        self._run.end_epoch()
        if self._options.validation is not None and logs is not None:
            has_passed = self.batch_norm_epoch is not None
            logs.update(
                self._options.validation.logs(
                    self.model, self.n_averaged, has_passed, self.average_applied
                )
            )

    def on_train_end(self, logs=None):
        """Sets the average where it is right to; gives everything else back."""
        if self._guard.is_failing():
            return self._give_back()
        self._run.end()
        self._loaded = None
        self._close_guard()
        history = getattr(self.model, "history", None)  # a loop by hand has none
        if self._run.rates.sets_rate and history is not None:
            history.history["lr"] = list(self._run.rates.history)

    # Small things

    def _begun(self, state):
        """A run of the model that has begun, from a state or None."""
        averages = [one.average.mean for one in _RUNS if one is not self._run]
        if sum(array.nbytes for mean in averages for array in mean) > _HELD:
            gc.collect()  # Keras's callback lists are cycles, with earlier callbacks in
        given = self._keras, self.model, self._options, self.params
        options = dict(verbose=self.verbose, compiled_rate=self._compiled_rate)
        run = Run(*given, state=state, **options)
        _RUNS.add(run)
        return run

    def _insist_last(self):
        """Sets each rate after the user's other callbacks, where some come later."""
        kinds = self._keras.module.callbacks
        own = kinds.BaseLogger, kinds.History, kinds.ProgbarLogger
        for callbacks in exchange.lists_on_stack(self):
            later = callbacks.callbacks[callbacks.callbacks.index(self) + 1 :]
            if not all(type(one) in own for one in later):
                callbacks.append(kinds.LambdaCallback(on_batch_begin=self._run.insist))

    def _place_average(self, x, batch_size, steps):
        """Puts the average into the model, with the statistics of `x`, or None."""
        run, averaged = self._run, self._run.averaged()
        layers, batches = run.statistics.layers, None
        rows = None if x is None else Rows(x, batch_size, steps)
        if rows is not None and layers:
            batches = rows.batches(run.step.model)  # refused before anything changes
        run.weights.place(run.final if x is None and run.final else averaged)
        if batches is not None:
            ranks = self._options.sum_over_ranks
            options = dict(batches=batches, sum_over_ranks=ranks)
            estimate = batch_norm.re_estimated(run.step, layers, averaged, **options)
            run.weights.place(estimate)

    def _give_back(self):
        """Gives everything back."""
        if self._run is not None and self._run.step.is_usable():
            if self._guard is not None:
                self._run.close()
            self._run.weights.give_back()
        self._close_guard()

    def _close_guard(self):
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def _count(self, name):
        if self._loaded is not None:
            return self._loaded[name]
        return getattr(self._run.average, name) if self._run else 0

    def _run_with_average(self):
        has_begun = self._run is not None and self._run.state is self._loaded
        if self._loaded is not None and not has_begun:
            raise ValueError(
                f"there is no average: fit must begin after load_state, "
                f"got n_averaged {self.n_averaged}."
            )
        if not self.n_averaged:
            raise ValueError(
                f"there is no average: no sample has been taken yet, got "
                f"n_averaged {self.n_averaged}."
            )
        return self._run


def check_model(keras, model, settings):
    """Raises ValueError for a model that cannot be averaged so, in one line."""
    kind = f"{type(model).__module__}.{type(model).__name__}"
    if not isinstance(model, keras.module.Model):
        raise ValueError(f"model must be a {keras.name} model, got {kind}.")
    strategy = getattr(model, "_distribution_strategy", None)
    if tf.distribute.has_strategy() or strategy:
        raise ValueError(
            f"model must not be in a tf.distribute strategy scope, got {model.name!r}."
        )
    if settings.lr_schedule != "manual" and not rates.has_rate(model.optimizer):
        raise ValueError(
            f"lr_schedule must be 'manual' with an optimizer whose rate "
            f"cannot be set ({type(model.optimizer).__name__}), got "
            f"{settings.lr_schedule!r}."
        )
    if keras.is_eager() and not model.run_eagerly:
        if not model._experimental_run_tf_function:
            raise ValueError(
                f"experimental_run_tf_function must be left on in eager "
                f"mode when model {model.name!r} is compiled, got False, "
                f"as Keras sets it with an optimizer of tf.train, "
                f"sample_weight_mode or target_tensors. Use "
                f"run_eagerly=True, or leave them out."
            )
