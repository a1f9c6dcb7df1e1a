# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The callback, the same for `tf.keras` and stand-alone Keras.

A binding (`swa.tfkeras`, `swa.keras`) mixes `SWA` with its own Callback class and
describes its Keras in a `Keras`. Epochs count from zero inside.
"""

import contextlib
import gc
import math
import weakref
from collections import namedtuple
from typing import Any, Callable, Dict, Iterator, List, Optional

import numpy as np
import tensorflow as tf

from swa import averaging, batch_norm, moments, schedules
from swa.layers import batch_norms_of
from swa.optimizer_rate import OptimizerRate, is_settable
from swa.rows import Rows
from swa.run import PASS, NotBegun, Options, Run, check_average
from swa.running import Guard
from swa.validation import optional_validation

__all__ = ["Keras", "SWA"]

# What a binding knows about its Keras:
#   name: str, as users write it
#   module: the module
#   make_mode(keras, model): the model's swa.graph.GraphMode or swa.eager.EagerMode
#   weights(model): list of variables in `get_weights()` order
#   updates(model): list of the update operations of the layers that are not frozen
Keras = namedtuple("Keras", "name module make_mode weights updates")

# The keys of `SWA.state`
_STATE = (
    *("settings", "learning_rate", "batches_per_epoch"),
    *("n_averaged", "n_skipped", "average"),
)
# Those of all callbacks, and how many bytes of others' may wait for the collector
_AVERAGES = weakref.WeakSet()
_MAY_WAIT = 1 << 24


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
      swa_lr: float > 0 or 'auto' (a tenth of the compiled rate). docs/results.md
        tells with which fractions of the compiled rate what was gained.
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
      n_skipped: int, samples left out because they held NaN or Inf.
      averaged_weights: list of arrays, in `model.get_weights()` order.
      batch_norm_epoch: int counted from one, or None: the forward-only epoch.
      is_forward_only: bool, whether the forward-only epoch runs now.
      state: dict, with which another process goes on.

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
        _check_tensorflow()
        self.settings = schedules.checked(
            start_epoch, lr_schedule, swa_lr, swa_lr2, swa_freq, snapshot
        )
        self.batch_size, self.verbose = batch_size, verbose
        self._validation = optional_validation(validation, validation_rows, batch_size)
        self._sum_over_ranks = moments.sum_function(ranks)
        self._avg_fn = avg_fn
        self._average = averaging.Average(avg_fn)
        self._run = NotBegun()  # the last `fit`
        self._guard = Guard()
        self._optimizer, self._compiled_rate = None, math.nan  # as of `set_model`

    # What users read and call

    @property
    def lr(self) -> float:
        """float: the learning rate of the current batch; nan: there is no model yet.

        Between two epochs it is that of the last batch.
        """
        if self._guard.is_open:
            rate = self._run.rate_control.rates.current
            if not math.isnan(rate):
                return rate
        return self._rate_of(self.model)

    @property
    def n_averaged(self) -> int:
        """int: samples in the average."""
        return self._average.n_averaged

    @property
    def n_skipped(self) -> int:
        """int: samples left out because they held NaN or Inf."""
        return self._average.n_skipped

    @property
    def batch_norm_epoch(self) -> Optional[int]:
        """int counted from one: the forward-only epoch; None: there was none."""
        return self._run.batch_norm_epoch

    @property
    def is_forward_only(self) -> bool:
        """bool: whether the current batches belong to the forward-only epoch.

        A loop of your own leaves its optimizer step out then.
        """
        return self._guard.is_open and self._run.stage is PASS

    @property
    def averaged_weights(self) -> List[np.ndarray]:
        """The average, with the batch-norm statistics of the forward-only epoch.

        Before that epoch the statistics are the mean of the samples' own.

        Returns:
          List of numpy arrays, with shapes and dtypes as of `model.get_weights()`.

        Raises:
          ValueError: no average yet.
        """
        run = self._run_with_average()
        return [
            np.array(weight if mean is None else mean)  # an integer weight has no mean
            for weight, mean in zip(run.mode.read(), run.final or run.averaged())
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
          batch_norm: bool, whether the last epoch trains nothing; None: as in the
            model the callback was given, False before it has one.

        Returns:
          `swa.schedules.Plan`.

        Raises:
          ValueError: what a `fit` of these epochs would be refused for.
        """
        if learning_rate is None:
            learning_rate = self._run.base_rate
            if math.isnan(learning_rate):  # neither a `fit` nor a state has told it
                learning_rate = self.lr
        if batch_norm is None:
            batch_norm = bool(self._run.layers or self._trained_batch_norms())
        return schedules.plan(
            self.settings, epochs, batches_per_epoch, learning_rate, batch_norm
        )

    def apply(
        self, x: Any = None, batch_size: int = 32, steps: Optional[int] = None
    ) -> None:
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
        if self._guard.is_fit_cut_off():
            self._end_interrupted()
        if run.layers and x is None:
            raise ValueError(
                f"x must be given for a model with batch normalization: averaged "
                f"weights need statistics of their own, got {x!r}."
            )
        with run.weights.restored_after(keeps=True):
            self._put_average(x, batch_size, steps)

    def restore(self) -> None:
        """Undoes `apply` and the end of training: the model has its trained weights.

        Weights that the user has changed since SWA set them stay. While `fit` runs,
        the forward-only epoch keeps the averaged weights, because it needs them.
        Training that an exception cut off, and a loop of your own that has not come to
        `on_train_end`, end here: the rate and the train function are given back too.
        Without anything to undo it does nothing.
        """
        if self._guard.is_open and not self._guard.is_fit_running():
            self._end_interrupted()
        elif self._run.has_begun and self._run.stage is not PASS:
            self._run.weights.give_back()

    @contextlib.contextmanager
    def average_applied(
        self, x: Any = None, batch_size: int = 32, steps: Optional[int] = None
    ) -> Iterator[None]:
        """In the block the model has the averaged weights, afterwards its own exactly.

        Args:
          x: training rows for matching batch-norm statistics; without them the
            statistics are the average of the trained ones, or those of the pass.
          batch_size: int, rows per batch where `x` is arrays.
          steps: int, batches to take of `x`; needed where `x` has no end.

        Raises:
          ValueError: no average yet, or rows that cannot be used.
        """
        weights = self._run_with_average().weights
        with weights.restored_after():
            if x is not None or not weights.is_average_there():
                self._put_average(x, batch_size, steps)
            yield

    @contextlib.contextmanager
    def trained_weights(self) -> Iterator[None]:
        """In the block the model has the last trained weights and statistics.

        It has them already where SWA has not put the average over them.
        """
        if not self._run.has_begun or not self._run.weights.trained:
            yield
            return
        trained = self._run.weights.trained
        with self._run.weights.restored_after():
            self._run.mode.put(trained)
            yield

    def get_config(self) -> Dict[str, Any]:
        """dict: the constructor's arguments.

        Left out are those that are no plain values: validation, validation_rows, ranks
        and avg_fn.
        """
        return {
            **self.settings._asdict(),
            "batch_size": self.batch_size,
            "verbose": self.verbose,
        }

    @property
    def state(self) -> Dict[str, Any]:
        """dict of plain values and numpy arrays, for `load_state`.

        Keys:
          settings: dict of the schedule's arguments.
          learning_rate: float, the rate from which the schedule is computed.
          batches_per_epoch: int; 0: not known yet.
          n_averaged, n_skipped: int.
          average: list of arrays of at least float32, one for each floating-point
            weight, in `model.get_weights()` order.
        """
        return {
            "settings": dict(self.settings._asdict()),
            "learning_rate": self._run.base_rate,
            "batches_per_epoch": self._run.batches_of_first_epoch,
            "n_averaged": self.n_averaged,
            "n_skipped": self.n_skipped,
            "average": [np.array(mean) for mean in self._average.mean],
        }

    def load_state(self, state: Dict[str, Any]) -> None:
        """Goes on from a `state`: the next `fit` continues that training.

        A model that this callback has trained gets its trained weights back, as by
        `restore`.

        Args:
          state: dict, as the property `state` gave it.

        Raises:
          ValueError: the state is no such dict, of other settings or, once the model
            is known, of another model, each by name; or `fit` runs now.
        """
        if not isinstance(state, dict):
            raise ValueError(f"state must be what SWA.state gives, got {state!r}.")
        missing = [name for name in _STATE if name not in state]
        if missing:
            raise ValueError(
                f"state must be what SWA.state gives, got a dict without {missing}."
            )
        for name, value in self.settings._asdict().items():
            value_of_state = state["settings"].get(name)
            if value_of_state != value:
                raise ValueError(
                    f"state must have {name} {value!r}, got {value_of_state!r}."
                )
        if self._guard.is_fit_running():
            raise ValueError(
                f"load_state must be called before fit, got model "
                f"{self.model.name!r}, which trains now."
            )
        average = averaging.Average(self._avg_fn)
        average.load(state["average"], state["n_averaged"], state["n_skipped"])
        if self._run.has_begun:
            check_average(average, self._run.mode)
            self._end_interrupted()
        self._average = average
        self._run = NotBegun(state["learning_rate"], state["batches_per_epoch"])

    # Keras's hooks, as the stages of `swa.run.Run` follow each other

    def set_model(self, model: Any) -> None:
        """Notes the compiled rate, before any callback's `on_train_begin`."""
        super().set_model(model)
        if isinstance(model, self._keras.module.Model):
            self._note_compiled_rate()

    def on_train_begin(self, logs=None):
        """Refuses what cannot work, before anything is changed."""
        check_model(self._keras, self.model, self.settings)
        _check_params(getattr(self, "params", None))
        was_cut_off = self._guard.end_cut_off(self.model)
        is_known = self.model.optimizer is self._optimizer
        # a loop by hand may train again without `set_model`
        if was_cut_off or not is_known or math.isnan(self._compiled_rate):
            self._note_compiled_rate()
        average, earlier = self._average, self._run
        # a loaded state serves the first `fit` after it, and each later one starts anew
        if self._run.has_begun:
            average, earlier = averaging.Average(self._avg_fn), NotBegun()
        options = Options(
            self.settings, self._sum_over_ranks, self._validation, self.verbose
        )
        mode = self._keras.make_mode(self._keras, self.model)
        run = Run(mode, options, self.params, average, self._compiled_rate, earlier)
        run.begin()
        if not hasattr(self.model, "stop_training"):  # `fit` sets it, a loop may not
            self.model.stop_training = False
        self._average, self._run = average, run
        _free_unused_averages(besides=average)
        self._guard.open(self.model, self._end_interrupted)

    def on_epoch_begin(self, epoch, logs=None):
        """Says where averaging starts.

        Raises:
          ValueError: a loop by hand goes on though its training has been ended.
        """
        if not self._guard.is_open:
            raise ValueError(
                f"on_train_begin must be called before on_epoch_begin, because a fit, "
                f"restore() or another SWA has ended the training of model "
                f"{self.model.name!r}, got epoch {epoch}."
            )
        self._run.begin_epoch(epoch, self.params)

    def on_batch_begin(self, batch, logs=None):
        """Begins the pass or the rates of an epoch with its first batch."""
        self._run.begin_batch()

    def on_batch_end(self, batch, logs=None):
        """Counts the batches that ran."""
        self._run.end_batch()

    def on_test_begin(self, logs=None):
        """Ends the pass: validation follows the last batch."""
        if self._guard.is_open:  # else `evaluate`, with this as its callback
            self._run.end_pass_if_whole()

    def on_epoch_end(self, epoch, logs=None):
        """Takes the sample; turns an early stop into the pass."""
        if self._guard.is_failing():
            return
        self._run.end_epoch()
        if self._validation is not None and logs is not None:
            has_passed = self.batch_norm_epoch is not None
            logs.update(
                self._validation.logs(
                    self.model, self.n_averaged, has_passed, self.average_applied
                )
            )

    def on_train_end(self, logs=None):
        """Sets the average, if the pass has ended or there is no batch norm."""
        if self._guard.is_failing():
            self._end_interrupted()
            return
        self._run.end()
        # a loop by hand has none of its own, though an earlier `fit` may have left one
        history = self.model.history if self._guard.is_fit_running() else None
        if self.settings.lr_schedule != "manual" and history is not None:
            history.history["lr"] = list(self._run.rate_control.rates.history)
        self._close()

    # Small things

    def _note_compiled_rate(self):
        self._optimizer = getattr(self.model, "optimizer", None)
        self._compiled_rate = self._rate_of(self.model)

    def _trained_batch_norms(self):
        """The trainable batch-norm layers of the model, if there is one yet."""
        if not isinstance(self.model, self._keras.module.Model):
            return []
        return batch_norms_of(self.model, only_trainable=True)

    def _rate_of(self, model):
        """float: a model's learning rate; nan where there is none that can be set."""
        optimizer = getattr(model, "optimizer", None)
        read = self._keras.module.backend.get_value
        return OptimizerRate(optimizer, read, assign=None).value_or_nan()

    def _put_average(self, x, batch_size, steps):
        """Puts the average into the model, with the statistics of `x`, or None."""
        run, averaged = self._run, self._run.averaged()
        if x is None or not run.layers:
            run.weights.put(run.final if x is None and run.final else averaged)
            return
        rows = Rows(x, batch_size, steps)
        batches = rows.batches(run.mode.model)  # refused before anything changes
        run.weights.put(averaged)
        ranks = self._sum_over_ranks
        estimate = batch_norm.re_estimated(
            run.mode, run.layers, averaged, batches=batches, sum_over_ranks=ranks
        )
        run.weights.put(estimate)

    def _end_interrupted(self):
        """Gives back what training that was cut off has left, and the weights."""
        if self._run.has_begun and self._run.mode.is_usable():
            self._run.give_back()
        elif self._run.has_begun:
            self._run.mode.give_back()  # it needs no session
        self._close()

    def _close(self):
        """No training runs any more; the next one notes its rate anew."""
        self._compiled_rate = math.nan
        self._guard.close()

    def _run_with_average(self):
        if self.n_averaged and self._run.has_begun:
            return self._run
        if not self.n_averaged:
            raise ValueError(
                f"there is no average: no sample has been taken yet, got n_averaged "
                f"{self.n_averaged}."
            )
        raise ValueError(
            f"there is no average: fit must begin after load_state, got n_averaged "
            f"{self.n_averaged}."
        )


def _free_unused_averages(besides):
    """Frees what callbacks hold that are not used any more, if it is much.

    Keras's list of callbacks is a cycle, so that only the collector frees them.

    Args:
      besides: averaging.Average, the one of the `fit` that begins.
    """
    others = [average for average in _AVERAGES if average is not besides]
    if sum(array.nbytes for average in others for array in average.mean) > _MAY_WAIT:
        gc.collect()
    _AVERAGES.add(besides)


def _check_params(params):
    """Refuses a loop by hand that has not told its epochs."""
    if not (params or {}).get("epochs"):
        raise ValueError(
            f"set_params must be called with the number of epochs before "
            f"on_train_begin, as in swa.set_params({{'epochs': 10}}), got {params!r}."
        )


def _check_tensorflow():
    if not tf.__version__.startswith("1.15"):
        raise RuntimeError(f"swa needs TensorFlow 1.15, found {tf.__version__}.")


def check_model(keras, model, settings):
    """Refuses a model that SWA cannot train with these settings.

    Args:
      keras: Keras.
      model: what the callback was given as the model.
      settings: schedules.Settings.

    Raises:
      ValueError: in one line.
    """
    kind = f"{type(model).__module__}.{type(model).__name__}"
    if not isinstance(model, keras.module.Model):
        raise ValueError(f"model must be a {keras.name} model, got {kind}.")
    strategy = getattr(model, "_distribution_strategy", None)
    if tf.distribute.has_strategy() or strategy:
        raise ValueError(
            f"model must not be in a tf.distribute strategy scope, got {model.name!r}."
        )
    if settings.lr_schedule != "manual" and not is_settable(model.optimizer):
        raise ValueError(
            f"lr_schedule must be 'manual' with an optimizer whose rate "
            f"cannot be set ({type(model.optimizer).__name__}), got "
            f"{settings.lr_schedule!r}."
        )
