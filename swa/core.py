# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The callback's logic, the same for `tf.keras` and stand-alone Keras.

A binding (`swa.tfkeras`, `swa.keras`) mixes `SWA` with its own Callback class
and says in a `Keras` how its models are asked. Epochs count from zero inside.
"""

import contextlib
import math
import sys
import warnings
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
)

import numpy as np
import tensorflow as tf

from swa import averaging, batch_norm, eager, graph, runtime, schedules
from swa.validation import Validation


class Keras(NamedTuple):
    """What a binding knows about its Keras."""

    name: str  # as users write it
    backend: Any  # the module with get_session, get_value, learning_phase
    model_class: type
    is_eager: Callable  # () -> bool
    weights: Callable  # model -> its variables, in `get_weights()` order
    updates: Callable  # model -> list of the layers' updates
    metric_updates: Callable  # model -> list of the metrics' updates


class SWA:
    """Averages the weights along the tail of training; sets them at its end.

    swa_weights = (w_1 + ... + w_n) / n, one sample every `swa_freq` epochs from
    `start_epoch` on. With batch normalization the last epoch is a forward-only
    pass in which the averaged weights get the statistics of all its rows: no
    weight, no optimizer slot and no `iterations` changes in it, its rate is 0.
    Without, the average is set when training ends.

    Args:
      start_epoch: int >= 2, counted from one; below `epochs`.
      lr_schedule: 'manual' (the rate is yours), 'constant' (anneal to `swa_lr`
        and stay) or 'cyclic' (then fall from `swa_lr2` to `swa_lr` in each
        cycle of `swa_freq` epochs). See `swa.schedules.epoch_rates`.
      swa_lr: float > 0 or 'auto' (a tenth of the compiled rate).
      swa_lr2: float > 0 or 'auto' (a quarter of the way from swa_lr to the
        compiled rate).
      swa_freq: int >= 1, epochs per sample; >= 2 with 'cyclic'.
      batch_size: accepted for code written for keras-swa; not needed.
      verbose: 0 silent, 1 announces each stage.
      snapshot: 'cycle_start' (the reference's phase: first epoch of a cycle) or
        'cycle_end' (the paper's: where the rate is lowest).
      scope: function that returns a context manager in which the averaging
        operations are made, or None.
      validation: (x, y) or (x, y, sample_weight) of arrays, or a Sequence: the
        average is evaluated on it after each sample, and each epoch's logs and
        history get swa_loss and swa_<metric>, nan before the first sample.
      validation_rows: training rows, as `update_bn` takes them; needed for
        `validation` with batch normalization.
      ranks: for training in several processes whose gradients are averaged: a
        function of a list of arrays (float or int64) that returns the sum of
        each over all processes, or an object with such a method `sum`. The
        statistics are then those of all processes' rows. Each process must run
        equally many batches.

    Attributes:
      lr: float, the rate of the current batch.
      n_averaged: int, samples in the average.
      n_skipped: int, samples left out since they held NaN or Inf.
      averaged_weights: list of arrays, in `model.get_weights()` order.
      batch_norm_epoch: int counted from one, or None: the forward-only epoch.

    Raises:
      ValueError: an argument out of its range; when training begins,
        `start_epoch` not below `epochs`, `swa_lr` above the compiled rate, or a
        model or an optimizer that cannot be averaged.

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
        scope: Optional[Callable[[], ContextManager]] = None,
        validation: Any = None,
        validation_rows: Any = None,
        ranks: Any = None,
    ) -> None:
        super().__init__()
        if not tf.__version__.startswith("1.15"):
            raise RuntimeError(f"swa needs TensorFlow 1.15, found {tf.__version__}.")
        self.settings = schedules.checked(
            start_epoch, lr_schedule, swa_lr, swa_lr2, swa_freq, snapshot
        )
        self.batch_size = batch_size
        self.verbose = verbose
        self._scope = scope
        self._validation = None
        if validation is not None:
            self._validation = Validation(validation, validation_rows)
        self._sum_over_ranks = batch_norm.summing(ranks)
        self._built_for = None  # (model, optimizer, graph) that _build served
        self._loaded = None  # a state that waits for its model
        self._is_open = False  # between the hooks' coming and going
        self._is_applied = False  # the trained weights are kept aside
        self._forget()

    # What users read and call

    @property
    def lr(self) -> float:
        """float: the learning rate of the current batch (nan: no model yet)."""
        if self._rates is None or math.isnan(self._rates[0]):
            return self._rate_of_optimizer()
        return float(self._rates[min(self._batch, len(self._rates) - 1)])

    @property
    def averaged_weights(self) -> List[np.ndarray]:
        """List of numpy arrays in `model.get_weights()` order."""
        self._check_has_average()
        return self._average.arrays()

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
        """
        if learning_rate is None:
            learning_rate = self._base_rate
            if math.isnan(learning_rate):
                learning_rate = self._rate_of_optimizer()
        if batch_norm is None:
            batch_norm = bool(self._statistics)
        return schedules.plan(
            self.settings, epochs, batches_per_epoch, learning_rate, batch_norm
        )

    def apply(self, x: Any = None, batch_size: int = 32) -> None:
        """Makes the average the model's weights; `restore` undoes it.

        Args:
          x: training rows as for `update_bn`; needed with batch normalization.
          batch_size: int, rows per batch where `x` is arrays.

        Raises:
          ValueError: no average yet, or batch normalization and no `x`.
        """
        self._check_has_average()
        if self._statistics and x is None:
            raise ValueError(
                "x must be given for a model with batch normalization: averaged "
                "weights need statistics of their own, got None."
            )
        if not self._is_applied:
            self._average.keep()
            self._is_applied = True
        self._average.apply()
        if self._statistics:
            self._statistics.re_estimate(x, batch_size, self._sum_over_ranks)

    def restore(self) -> None:
        """Gives back the trained weights, the rate and the train function."""
        if self._is_applied:
            self._average.restore()
            self._is_applied = False
        self._close()

    @contextlib.contextmanager
    def average_applied(self, x: Any = None, batch_size: int = 32) -> Iterator[None]:
        """Within it the model has the averaged weights; exact restore after.

        Args:
          x: training rows for matching batch-norm statistics; without them the
            statistics are the average of the trained ones.
          batch_size: int, rows per batch where `x` is arrays.
        """
        self._check_has_average()
        if self._is_applied:
            yield
            return
        self._average.keep()
        self._is_applied = True
        try:
            self._average.apply()
            if x is not None and self._statistics:
                self._statistics.re_estimate(x, batch_size, self._sum_over_ranks)
            yield
        finally:
            self._average.restore()
            self._is_applied = False

    @contextlib.contextmanager
    def trained_weights(self) -> Iterator[None]:
        """Within it the model has the last trained weights and statistics."""
        if not self._is_applied:
            yield
            return
        self._average.exchange()
        try:
            yield
        finally:
            self._average.exchange()

    def get_config(self) -> Dict[str, Any]:
        """dict: the constructor's plain arguments."""
        config = dict(self.settings._asdict())
        config.update(batch_size=self.batch_size, verbose=self.verbose)
        return config

    @property
    def state(self) -> Dict[str, Any]:
        """dict of plain values and numpy arrays, for `load_state`."""
        has_average = self.n_averaged > 0
        return {
            "settings": dict(self.settings._asdict()),
            "learning_rate": self._base_rate,
            "batches_per_epoch": self._counted,
            "n_averaged": self.n_averaged,
            "n_skipped": self.n_skipped,
            "average": self._average.exact_arrays() if has_average else [],
        }

    def load_state(self, state: Dict[str, Any]) -> None:
        """Goes on from a `state`: the next `fit` continues that training.

        Raises:
          ValueError: the state is of other settings or, once the model is known,
            of another model, each by name.
        """
        for name, value in self.settings._asdict().items():
            if state["settings"].get(name) != value:
                raise ValueError(
                    f"state must have {name} {value!r}, got "
                    f"{state['settings'].get(name)!r}."
                )
        if self._built_for is not None and state["n_averaged"]:
            self._average.check_arrays(state["average"])
        self._loaded = dict(state)

    # Keras's hooks

    def on_train_begin(self, logs=None):
        """Checks the run, hooks the training step, starts from nothing."""
        if self._is_open:
            self.restore()
        self._is_applied = False
        self._forget()
        self._error_before = sys.exc_info()[1]
        self._check_model()
        self._rate_at_begin = self._base_rate = self._rate_of_optimizer()
        if self._loaded is not None and not math.isnan(self._loaded["learning_rate"]):
            self._base_rate = self._loaded["learning_rate"]
        schedules.check_run(self.settings, self.params["epochs"], self._base_rate)
        self._open()
        self._make_ready()

    def on_epoch_begin(self, epoch, logs=None):
        """Decides what kind of epoch it is; the first batch starts it."""
        self._epoch, self._batch = epoch, 0
        self._ended = 0
        self._is_pass = (
            bool(self._statistics)
            and self.n_averaged > 0
            and (epoch == self.params["epochs"] - 1 or self._is_stopping)
        )
        if not self._announced and epoch >= self.settings.start_epoch - 1:
            self._announced = True
            self._say("starting stochastic weight averaging")

    def on_batch_begin(self, batch, logs=None):
        """Sets the epoch's rates with its first batch."""
        if not self._is_ready:
            self._make_ready()
        if batch == 0 and self._is_pass:
            self._begin_pass()
        elif batch == 0:
            self._begin_rates()
        elif self._sets_rate and not self._is_pass:
            self._batch = batch
            if self._is_late:
                self._loop.ramp(self._rates[min(batch, len(self._rates) - 1) :])
                self._is_late = False
            elif self._runtime.graph is None:
                self._loop.set_rate(self.lr)
        self._batch = batch

    def on_batch_end(self, batch, logs=None):
        """Counts the batches that ran."""
        self._ended += 1
        self._saw_stop = self.model.stop_training

    def on_test_begin(self, logs=None):
        """Ends the forward pass: validation follows the last batch."""
        if self._is_pass and self._is_whole() and not self._has_passed:
            self._complete_pass()

    def on_epoch_end(self, epoch, logs=None):
        """Folds the sample; turns an early stop into the forward pass."""
        if self._is_failing():
            return
        if self._sets_rate:
            rates = self._rates[
                np.minimum(np.arange(self._ended), len(self._rates) - 1)
            ]
            self._history.extend(float(rate) for rate in rates)
        if not self._counted:
            self._counted = self._ended
        if self._is_pass:
            self._end_pass()
        elif self._ended and schedules.is_sampled(self.settings, epoch):
            self._sample()
        if self._validation is not None and logs is not None:
            logs.update(self._validation.logs(self, self._rows_of_a_batch()))
        if self._is_pass:
            return
        if self.model.stop_training and self._statistics and self.n_averaged:
            self._stop_after_pass(epoch)

    def on_train_end(self, logs=None):
        """Sets the average where it is right to; gives everything else back."""
        if self._is_failing():
            self.restore()
            return
        if self._has_passed:
            self._finish()  # whatever other callbacks have set meanwhile
        elif not self.n_averaged:
            self._warn("no sample was averaged; the trained weights stay.")
        elif self._statistics:
            self._warn(
                "training ended before batch normalization could be re-estimated; "
                "the trained weights stay. Place SWA after the callback that stops "
                "training, or call swa.apply(x) with training rows."
            )
        else:
            self._average.keep()
            self._is_applied = True
            self._average.apply()
            self._say("final model weights set to stochastic weight average")
        self._close()
        if self._sets_rate:
            self.model.history.history["lr"] = list(self._history)

    # The stages

    def _forget(self):
        """The state of a run that has not begun."""
        self.n_averaged = self.n_skipped = 0
        self.batch_norm_epoch = None
        self._base_rate = math.nan
        self._rates = None  # of the epoch, by batch
        self._history = []
        self._batch = self._ended = self._counted = 0
        self._is_ready = self._is_pass = self._is_late = False
        self._is_stopping = self._has_passed = self._saw_stop = False
        self._announced = False
        if self._validation is not None:
            self._validation.forget()
        if self._built_for is None:
            self._average, self._statistics, self._loop = None, None, None
            self._runtime = None

    def _make_ready(self):
        """Builds what needs the model's weights, as soon as there are some."""
        is_eager = self._keras.is_eager()
        if not self.model.built or not self.model.weights:
            return  # a model that its first batch builds
        if not is_eager and self.model.train_function is None:
            self.model._make_train_function()
        if not self._build(is_eager):
            self._average.clear()
        if self._validation is not None:
            self._validation.check(bool(self._statistics))
        self._is_ready = True
        if self._loaded is not None:
            self._load()
        if self._sets_rate:
            self._loop.hook("ramp")
            self._is_late = self._rates is not None

    def _build(self, is_eager):
        """Makes variables and functions, and says whether it had to."""
        keras, model = self._keras, self.model
        place = None if is_eager else keras.backend.get_session().graph
        if self._built_for == (model, model.optimizer, place):
            return False  # a second `fit` uses the same ones
        self._runtime = runtime.of(keras, self._scope)
        self._average = averaging.Average(keras.weights(model), self._runtime)
        self._statistics = batch_norm.Statistics(keras, model, self._runtime)
        if is_eager:
            self._loop = eager.EagerStep(
                model,
                keras.backend.learning_phase,
                self._has_rate(),
                self._statistics.entries,
            )
        else:
            self._loop = graph.TrainFunction(
                model,
                lambda m: keras.updates(m) + keras.metric_updates(m),
                model.optimizer.lr if self._has_rate() else None,
                self._statistics.entries,
                self._runtime,
            )
        if self._statistics:
            self._loop.prepare("pass")
            self._start_pass = self._runtime.function(self._pass_operations)
            self._finish = self._runtime.function(self._final_operations)
            if self._sum_over_ranks is not None:
                self._statistics.prepare_ranks()
        self._average.prepare()
        self._built_for = (model, model.optimizer, place)
        return True

    def _load(self):
        """Takes over the state that `load_state` was given."""
        state, self._loaded = self._loaded, None
        if state["n_averaged"]:
            self._average.load_arrays(state["average"])
        self.n_averaged = state["n_averaged"]
        self.n_skipped = state["n_skipped"]
        self._counted = state["batches_per_epoch"]

    def _begin_rates(self):
        """The rates of an epoch of training."""
        batches = self._batches_per_epoch()
        self._rates = schedules.epoch_rates(
            self.settings, self._base_rate, self._epoch, batches
        )
        if not self._sets_rate:
            return
        is_cyclic = self.settings.lr_schedule == "cyclic"
        if not batches and is_cyclic and self._epoch >= self.settings.start_epoch - 1:
            self._say("data of unknown length, one learning rate for this epoch")
        if self._is_ready:
            self._loop.ramp(self._rates)
        else:
            self.model.optimizer.lr = self._rates[0]

    def _begin_pass(self):
        """The averaged weights, no rate, and the statistics of no row yet."""
        self._average.keep()
        self._is_applied = True
        self.batch_norm_epoch = self._epoch + 1
        self._start_pass()
        self._rates = np.zeros(1)
        self._loop.hook("pass")
        self._say("final model weights set to stochastic weight average")
        self._say("reinitializing batch normalization layers")
        self._say("running forward pass to adjust batch normalization")

    def _pass_operations(self):
        return tf.group(
            self._average.set_mean() + self._statistics.clear() + self._loop.stop()
        )

    def _final_operations(self):
        with tf.control_dependencies(self._average.set_mean()):
            # after the mean, which holds an average of the trained statistics
            return tf.group(self._statistics.set_layers())

    def _complete_pass(self):
        """The statistics are those of all rows, here and on the other ranks."""
        self._loop.unhook()
        self._statistics.merge_ranks(self._sum_over_ranks)
        self._has_passed = True

    def _end_pass(self):
        if not self._has_passed and self._is_whole():
            self._complete_pass()
        elif not self._has_passed:
            self._loop.unhook()
            self._average.restore()
            self._is_applied = False
            self._give_rate_back()
            self.batch_norm_epoch = None
        if self._is_stopping:
            self.model.stop_training = True

    def _is_whole(self):
        """Whether every batch of the epoch ran."""
        return 0 < self._ended >= self._batches_per_epoch()

    def _sample(self):
        if self._average.fold(self.n_averaged):
            self.n_averaged += 1
            return
        self.n_skipped += 1
        self._warn(
            f"the weights of epoch {self._epoch + 1} hold NaN or Inf and were not "
            f"averaged."
        )

    def _stop_after_pass(self, epoch):
        """Lets one more epoch run, if there is one and data to run it."""
        expected = self._batches_per_epoch()
        is_whole = self._ended >= expected or self._saw_stop
        if is_whole and epoch < self.params["epochs"] - 1:
            self._is_stopping = True
            self.model.stop_training = False

    # What is borrowed and given back

    def _open(self):
        """From here to `_close`, the next `fit` begins with `restore`."""
        self._is_open = True
        for name in ("fit", "fit_generator"):
            vars(self.model)[name] = self._closing_first(getattr(self.model, name))
        make = self.model._make_train_function

        def make_and_follow():
            make()
            if self._loop is not None and self._runtime.graph is not None:
                self._loop.follow()

        # Keras makes it anew in mid-training where sample weights first come.
        vars(self.model)["_make_train_function"] = make_and_follow

    def _closing_first(self, fit):
        def fit_after_restore(*args, **kwargs):
            self.restore()
            return fit(*args, **kwargs)

        return fit_after_restore

    def _close(self):
        """Gives the rate and the train function back."""
        if not self._is_open:
            return
        if self._loop is not None:
            self._loop.unhook()
        self._give_rate_back()
        self._rates = None
        for name in ("fit", "fit_generator", "_make_train_function"):
            vars(self.model).pop(name, None)
        self._is_open = False  # last: what an interrupt leaves open is closed later

    def _give_rate_back(self):
        if not self._has_rate():
            return
        if self._sets_rate:
            self._set_rate(self._rate_at_begin)
        elif self.batch_norm_epoch is not None and not self._rate_of_optimizer():
            self._set_rate(self._loop.rate_before_stop())

    # Small questions

    def _is_failing(self):
        """Whether eager `fit` calls a last hook although an exception passes."""
        error = sys.exc_info()[1]
        return error is not None and error is not self._error_before

    @property
    def _sets_rate(self):
        return self.settings.lr_schedule != "manual"

    def _has_rate(self):
        rate = getattr(self.model.optimizer, "lr", None)
        return rate is not None and not callable(rate)

    def _rate_of_optimizer(self):
        if getattr(self, "model", None) is None or not self._has_rate():
            return math.nan
        return float(self._keras.backend.get_value(self.model.optimizer.lr))

    def _set_rate(self, rate):
        if self._loop is not None:
            self._loop.ramp([rate])
        else:
            self.model.optimizer.lr = rate

    def _batches_per_epoch(self):
        """int, 0 where a data set has not told its length yet."""
        params = self.params
        if params.get("steps"):
            return int(params["steps"])
        if params.get("samples") and params.get("batch_size"):
            return int(math.ceil(params["samples"] / params["batch_size"]))
        return self._counted

    def _rows_of_a_batch(self):
        """int, where arrays are evaluated: as many as in training, where known."""
        return self.params.get("batch_size") or self.batch_size or 32

    def _check_model(self):
        if not isinstance(self.model, self._keras.model_class):
            raise ValueError(
                f"model must be a {self._keras.name} model, got "
                f"{type(self.model).__module__}.{type(self.model).__name__}."
            )
        if tf.distribute.has_strategy() or getattr(
            self.model, "_distribution_strategy", None
        ):
            raise ValueError("model must not be in a tf.distribute strategy scope.")
        if self._sets_rate and not self._has_rate():
            raise ValueError(
                f"lr_schedule must be 'manual' with an optimizer whose rate cannot "
                f"be set ({type(self.model.optimizer).__name__}), got "
                f"{self.settings.lr_schedule!r}."
            )
        if (
            self._keras.is_eager()
            and not self.model.run_eagerly
            and not self.model._experimental_run_tf_function
        ):
            raise ValueError(
                "experimental_run_tf_function must be left on in compile() in eager "
                "mode, got False. Use run_eagerly=True instead."
            )

    def _check_has_average(self):
        if not self.n_averaged:
            raise ValueError("there is no average: no sample has been taken yet.")

    def _say(self, what):
        if self.verbose > 0:
            print(f"\nEpoch {self._epoch + 1:05d}: {what}", flush=True)

    def _warn(self, what):
        warnings.warn(f"SWA: {what}", RuntimeWarning, stacklevel=3)
