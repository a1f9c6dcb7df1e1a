# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""One `fit` with SWA, stage by stage."""

import functools
import math
import warnings
from collections import namedtuple

import numpy as np

from swa import averaging, batch_norm, schedules
from swa.exchange import Weights
from swa.rates import Rates
from swa.steps import step_of

WAITING, TRAINING, PASS, PASSED = "waiting", "training", "pass", "passed"

# What a callback is made with: schedules.Settings; a function that sums arrays over the
# ranks, or None; a validation.Validation, or None; a rule of averaging, or None.
Options = namedtuple("Options", "settings sum_over_ranks validation avg_fn")


class Run:
    """One `fit`, from its beginning to what is left of it afterwards.

        WAITING  --the model has weights-->                  TRAINING
        TRAINING --its last epoch begins, n_averaged > 0-->  PASS     (batch norm)
        PASS     --every batch ran-->                        PASSED
        PASS     --cut short-->                              TRAINING (all given back)
        an early stop with batch norm and data left:         last_epoch = epoch + 1

    Args:
      keras: the binding's `swa.callback.Keras`.
      model: the model that trains.
      options: Options.
      params: dict, Keras's.
      verbose: int, whether to announce the stages.
      compiled_rate: float, the optimizer's before any callback began.
      state: dict from `SWA.state` to go on from, or None.

    Raises:
      ValueError: what cannot work; the model is then as before.

    Attributes:
      step: the model's step, of `swa.steps`.
      average: averaging.Average.
      weights: exchange.Weights.
      rates: rates.Rates.
      statistics: batch_norm.Statistics of the layers whose statistics are trained.
      progress: Progress.
      stage: str, one of the above.
      batch_norm_epoch: int counted from one, or None.
      state: dict, as given.
      final: list of arrays, the average with the statistics of the pass; else None.
    """

    def __init__(self, keras, model, options, params, *, verbose, compiled_rate, state):
        self._options, self._verbose, self.state = options, verbose, state
        self.average = averaging.Average(options.avg_fn)
        self.step, self.progress = step_of(keras, model), Progress(params)
        self.weights, self.statistics = Weights(self.step), batch_norm.Statistics([])
        self.stage, self.batch_norm_epoch, self.final = WAITING, None, None
        saved = math.nan if state is None else state["learning_rate"]
        base = compiled_rate if math.isnan(saved) else saved
        given = options.settings, self.step, compiled_rate
        # cached: each line is said once
        self.rates = Rates(*given, base=base, warn=functools.lru_cache()(warn))
        model.stop_training = getattr(model, "stop_training", False)  # a loop by hand
        self._check()
        self._make_ready()

    # The stages

    def begin_epoch(self, epoch, params):
        """Says where averaging starts; the first batch decides what the epoch is."""
        start, before = self._options.settings.start_epoch - 1, self.progress.epoch
        self.progress.begin_epoch(epoch, params)
        if before < start <= epoch:
            self._say("starting stochastic weight averaging")

    def begin_batch(self, batch):
        """Begins the pass or an epoch of training with its first batch."""
        # of the epoch, or of those that find weights
        is_first = batch == 0 or self.stage is WAITING
        if self.stage is WAITING:
            self._make_ready()
        if batch == 0 and self._is_pass_due():
            self._begin_pass()
        elif batch == 0:
            self._plan_epoch()
        if is_first and self.stage is TRAINING:
            self.rates.start(batch)
        if self.stage is not PASSED:  # eager `fit` begins a batch that never comes
            self.rates.begin_batch(batch)

    def insist(self, batch, logs):
        """Sets the rate once more, after all other callbacks."""
        if self.stage is not PASSED:
            self.rates.insist()

    def end_batch(self):
        """Counts it; the pass ends with the last batch, where that is known."""
        self.progress.end_batch(self.step.model.stop_training)
        if self.progress.is_last_batch:
            self.end_batches()

    def end_batches(self):
        """No batch follows in this epoch: the pass ends, if it was whole."""
        if self.stage is not PASS or not self.progress.is_whole:
            return
        statistics, variables = self.statistics, self.step.variables
        self.step.stop()
        statistics.merge_ranks(self._options.sum_over_ranks)
        # else, with NaN or Inf in it or without a batch, the pass is cut short
        if statistics.has_batches() and not statistics.non_finite_layers():
            self.final = statistics.with_statistics(self.averaged(), variables)
            self.weights.place(self.final)
            self.rates.give_back()
            self.stage = PASSED

    def end_epoch(self):
        """Takes a sample; turns an early stop into one epoch more, the pass."""
        self.end_batches()
        progress, model = self.progress, self.step.model
        self.rates.end_epoch(progress.ended)
        progress.counted = progress.counted or progress.ended
        if self.stage is PASS:
            self._cut_pass_short()
            model.stop_training = True  # as the user's callbacks asked, or the data
        elif self.stage is PASSED:  # the epoch may be one that SWA added
            model.stop_training |= progress.last_epoch < progress.params["epochs"] - 1
        else:
            is_due = schedules.is_sampled(self._options.settings, progress.epoch)
            if progress.ended and is_due:
                self._sample()
            if model.stop_training and self._needs_pass() and self._has_rows_left():
                progress.last_epoch, model.stop_training = progress.epoch + 1, False

    def end(self):
        """Sets the average, or says why the trained weights stay."""
        if self.stage is PASSED:
            self.weights.place(self.final)  # once more: others may have set theirs
        elif not self.average.n_averaged:
            warn("no sample was averaged; the trained weights stay.")
        elif self.statistics.layers:
            warn(
                "training ended before batch normalization could be re-estimated; the "
                "trained weights stay. Place SWA after the callback that stops "
                "training, or call swa.apply(x) with training rows."
            )
        else:
            self.weights.place_over_trained(self.averaged())
            self._say("final model weights set to stochastic weight average")
        self.close(has_ended=True)

    def close(self, has_ended=False):
        """Gives back the train function and the rate.

        Args:
          has_ended: bool, whether training came to its end; else it was cut off, and
            a rate that SWA has not set is a later act of the user's.
        """
        self.step.stop()
        self.rates.give_back(is_certain=has_ended and self.rates.sets_rate)

    def averaged(self):
        """The average as arrays in `get_weights()` order, None for integers."""
        return self.average.arrays(_dtypes(self.step))

    # What the stages do

    def _make_ready(self):
        """Finds and makes all that training needs, once there are weights."""
        model, validation = self.step.model, self._options.validation
        if not model.built or not model.weights:
            return  # its first batch builds it
        layers = self.step.prepare(self.rates.sets_rate)
        self.statistics = batch_norm.Statistics(layers)
        self._check()
        if validation is not None:
            validation.begin(model, self.progress.params, bool(layers))
        if self.state is not None:
            check_state(self.state, self.step)
            counts = self.state["n_averaged"], self.state["n_skipped"]
            self.average.load(self.state["average"], *counts)
            self.progress.counted = self.state["batches_per_epoch"]
        self.stage = TRAINING

    def _check(self):
        n_averaged = self.state["n_averaged"] if self.state else 0
        given = self._options.settings, self.progress.params["epochs"], self.rates.base
        schedules.check_run(*given, bool(self.statistics.layers), n_averaged)

    def _needs_pass(self):
        return bool(self.statistics.layers) and self.average.n_averaged > 0

    def _is_pass_due(self):
        return self._needs_pass() and self.progress.epoch == self.progress.last_epoch

    def _plan_epoch(self):
        epoch, batches = self.progress.epoch, self.progress.expected
        self.rates.begin_epoch(epoch, batches)
        settings = self._options.settings
        is_cyclic = settings.lr_schedule == "cyclic"
        if not batches and is_cyclic and epoch >= settings.start_epoch - 1:
            self._say("data of unknown length, one learning rate for this epoch")

    def _begin_pass(self):
        """The averaged weights, no rate, and the statistics of no row yet."""
        self.statistics = batch_norm.Statistics(self.statistics.layers)
        self.weights.place_over_trained(self.averaged())
        self.stage, self.batch_norm_epoch = PASS, self.progress.epoch + 1
        self.rates.begin_pass()
        self.step.start_pass(self.statistics)
        self._say("final model weights set to stochastic weight average")
        self._say("reinitializing batch normalization layers")
        self._say("running forward pass to adjust batch normalization")

    def _cut_pass_short(self):
        if self.statistics.non_finite_layers():
            warn("the rows of the batch-norm epoch hold NaN or Inf.")
        self.step.stop()
        self.weights.give_back()
        self.rates.give_back()
        self.stage, self.batch_norm_epoch = TRAINING, None

    def _sample(self):
        if not self.average.add(self.step.read()):
            warn(
                f"the weights of epoch {self.progress.epoch + 1} hold NaN or Inf and "
                f"were not averaged."
            )

    def _has_rows_left(self):
        """Whether one more epoch may run, and sees all rows once."""
        progress = self.progress
        is_whole = progress.saw_stop and not self.step.repeats_rows
        is_last = progress.epoch >= progress.params["epochs"] - 1
        return (is_whole or progress.is_whole) and not is_last

    def _say(self, what):
        if self._verbose > 0:
            print(f"\nEpoch {self.progress.epoch + 1:05d}: {what}", flush=True)


class Progress:
    """Where a `fit` is: epochs and batches, from zero.

    Args:
      params: dict, Keras's.

    Attributes:
      params: dict, Keras's of now.
      epoch: int, -1 before the first.
      last_epoch: int, the last one that is to run.
      told: int, batches of this epoch as Keras tells; 0: it does not.
      ended: int, batches of this epoch that ran.
      counted: int, batches of the first epoch; 0: not yet counted.
      saw_stop: bool, whether the last batch left the model told to stop.
    """

    def __init__(self, params):
        self.params, self.epoch, self.last_epoch = params, -1, params["epochs"] - 1
        self.told, self.ended, self.counted, self.saw_stop = 0, 0, 0, False

    @property
    def expected(self):
        """int: batches of an epoch; 0 where a data set has not told yet."""
        return self.told or self.counted

    @property
    def is_whole(self):
        """Whether every batch of the epoch ran."""
        return 0 < self.ended >= self.expected

    @property
    def is_last_batch(self):
        """Whether it is known that no batch follows in this epoch."""
        return 0 < self.told == self.ended

    def begin_epoch(self, epoch, params):
        """Keras's `params` tell of the run, and may tell more after an epoch."""
        self.params, self.epoch, self.ended = params, epoch, 0
        samples, size = params.get("samples"), params.get("batch_size")
        steps = samples / size if samples and size else 0
        self.told = int(math.ceil(params.get("steps") or steps))

    def end_batch(self, saw_stop):
        """One more batch ran."""
        self.ended, self.saw_stop = self.ended + 1, saw_stop


def check_state(state, step):
    """Raises ValueError unless a state's average can be that of a step's weights."""
    pairs = zip(step.variables, _dtypes(step))
    weights = [weight for weight, dtype in pairs if averaging.is_averaged(dtype)]
    arrays = state["average"]
    if state["n_averaged"] and len(arrays) != len(weights):
        raise ValueError(
            f"state must hold {len(weights)} averaged weights for this "
            f"model, got {len(arrays)}."
        )
    for array, weight in zip(arrays, weights):
        expected, shape = tuple(weight.shape.as_list()), np.shape(array)
        if shape != expected:
            raise ValueError(
                f"state must hold an average of shape {expected} for "
                f"weight {weight.name!r}, got {shape}."
            )


def warn(what):
    """Warns in one line."""
    warnings.warn(f"SWA: {what}", RuntimeWarning, stacklevel=3)


def _dtypes(step):
    return [np.dtype(variable.dtype.as_numpy_dtype) for variable in step.variables]
