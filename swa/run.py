# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""One `fit` with SWA, stage by stage."""

import math
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from swa import averaging, batch_norm, schedules
from swa.exchange import Weights
from swa.rates import Rates, has_rate
from swa.steps import step_of

WAITING, TRAINING, PASS, PASSED = "waiting", "training", "pass", "passed"


class Options(NamedTuple):
    """What a run is told by its callback."""

    settings: schedules.Settings
    sum_over_ranks: Optional[Callable[..., Any]]
    say: Callable[[int, str], None]  # of an epoch from zero, and a line
    warn: Callable[[str], None]  # of a line
    check_layers: Callable[[bool], None]  # raises; of whether there is batch norm


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
      average: averaging.Average of no set.
      compiled_rate: float, the optimizer's before any callback began.
      state: dict from `SWA.state` to go on from, or None.

    Attributes:
      step: the model's step, of `swa.steps`.
      average: averaging.Average.
      weights: exchange.Weights.
      rates: rates.Rates.
      statistics: batch_norm.Statistics of the layers whose statistics are trained.
      progress: Progress.
      stage: str, one of the above.
      batch_norm_epoch: int counted from one, or None.
    """

    def __init__(self, keras, model, options, *, average, compiled_rate, state):
        self._options, self._state = options, state
        self.average = average
        self.step = step_of(keras, model)
        self.weights = Weights(self.step)
        self.statistics = batch_norm.Statistics([])
        self.progress = Progress()
        self.stage = WAITING
        self.batch_norm_epoch = None
        base = compiled_rate
        if state is not None and not math.isnan(state["learning_rate"]):
            base = state["learning_rate"]
        self.rates = Rates(
            options.settings, self.step, compiled_rate, base=base, warn=options.warn
        )

    # The stages

    def begin(self, params):
        """Refuses what cannot work; ready where the model has weights already."""
        self.progress.params = params
        self._check_run()
        self._make_ready()

    def begin_epoch(self, epoch, params):
        """Says where averaging starts; the first batch decides what the epoch is."""
        start = self._options.settings.start_epoch - 1
        is_first = epoch >= start and not self.progress.epoch >= start
        self.progress.begin_epoch(epoch, params)
        if is_first:
            self._say("starting stochastic weight averaging")

    def begin_batch(self, batch):
        """Begins the pass or an epoch of training with its first batch."""
        was_waiting = self.stage is WAITING
        if was_waiting:
            self._make_ready()
        if batch == 0:
            self._begin_batches()
        elif was_waiting and self.stage is TRAINING:
            self.rates.start(batch)
        if self.stage is not PASSED:  # eager `fit` begins a batch that never comes
            self.rates.begin_batch(batch)

    def insist(self):
        """Sets the rate once more, after all other callbacks."""
        if self.stage is not PASSED:
            self.rates.insist()

    def end_batch(self):
        """Counts it; the pass ends with the last batch, where that is known."""
        self.progress.end_batch(self.step.model.stop_training)
        if self.stage is PASS and self.progress.is_last_batch:
            self._end_pass()

    def end_batches(self):
        """No batch follows in this epoch: the pass ends, if it was whole."""
        if self.stage is PASS and self.progress.is_whole:
            self._end_pass()

    def end_epoch(self):
        """Takes a sample; turns an early stop into one epoch more, the pass."""
        self.end_batches()
        progress, model = self.progress, self.step.model
        self.rates.end_epoch(progress.ended)
        progress.end_epoch()
        if self.stage in (PASS, PASSED):
            if self.stage is PASS:
                self._cut_pass_short()
            # an epoch of ours that the user's callbacks did not ask for
            model.stop_training |= progress.last_epoch < progress.epochs - 1
            return
        is_due = schedules.is_sampled(self._options.settings, progress.epoch)
        if progress.ended and is_due:
            self._sample()
        if model.stop_training and self._needs_pass and self._may_go_on():
            progress.last_epoch = progress.epoch + 1
            model.stop_training = False

    def end(self):
        """Sets the average, or says why the trained weights stay."""
        if self.stage is PASSED:
            self.weights.place(self.weights.placed)  # others may have set theirs
        elif not self.average.n_averaged:
            self._warn("no sample was averaged; the trained weights stay.")
        elif self.statistics.layers:
            self._warn(
                "training ended before batch normalization could be re-estimated; "
                "the trained weights stay. Place SWA after the callback that stops "
                "training, or call swa.apply(x) with training rows."
            )
        else:
            self.weights.take_trained_aside()
            self.weights.place(self.averaged())
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

    # What the stages do

    def averaged(self):
        """The average as arrays in `get_weights()` order, None for integers."""
        return self.average.arrays(_dtypes(self.step.variables))

    def _make_ready(self):
        """Finds and makes all that training needs, once there are weights."""
        if not self.step.has_weights():
            return
        sets_rate = has_rate(self.step.optimizer)
        self.statistics = batch_norm.Statistics(self.step.prepare(sets_rate))
        self._check_run()
        self._options.check_layers(bool(self.statistics.layers))
        if self._state is not None:
            check_state(self._state, self.step)
            self.average.load(
                self._state["average"],
                self._state["n_averaged"],
                self._state["n_skipped"],
            )
            self.progress.counted = self._state["batches_per_epoch"]
        self.stage = TRAINING

    def _check_run(self):
        schedules.check_run(
            self._options.settings,
            self.progress.epochs,
            self.rates.base,
            batch_norm=bool(self.statistics.layers),
            n_averaged=self._state["n_averaged"] if self._state else 0,
        )

    def _begin_batches(self):
        progress, settings = self.progress, self._options.settings
        if self._needs_pass and progress.epoch == progress.last_epoch:
            self._begin_pass()
            return
        batches = progress.expected
        self.rates.begin_epoch(progress.epoch, batches)
        is_cyclic = settings.lr_schedule == "cyclic"
        if not batches and is_cyclic and progress.epoch >= settings.start_epoch - 1:
            self._say("data of unknown length, one learning rate for this epoch")
        if self.stage is TRAINING:
            self.rates.start()

    @property
    def _needs_pass(self):
        return bool(self.statistics.layers) and self.average.n_averaged > 0

    def _begin_pass(self):
        """The averaged weights, no rate, and the statistics of no row yet."""
        self.statistics = batch_norm.Statistics(self.statistics.layers)
        self.weights.take_trained_aside()
        self.stage = PASS
        self.batch_norm_epoch = self.progress.epoch + 1
        self.weights.place(self.averaged())
        self.rates.begin_pass()
        self.step.start_pass(self.statistics)
        self._say("final model weights set to stochastic weight average")
        self._say("reinitializing batch normalization layers")
        self._say("running forward pass to adjust batch normalization")

    def _end_pass(self):
        """The layers get the statistics of all rows, here and on the other ranks."""
        self.step.stop()
        self.statistics.merge_ranks(self._options.sum_over_ranks)
        if not self.statistics.are_finite:
            return  # cut short when the epoch ends
        averaged = self.averaged()
        self.weights.place(self.statistics.filled_in(averaged, self.step.variables))
        self.rates.end_pass()
        self.stage = PASSED

    def _cut_pass_short(self):
        if not self.statistics.are_finite:
            self._warn("the rows of the batch-norm epoch hold NaN or Inf.")
        self.step.stop()
        self.weights.give_back()
        self.rates.end_pass()
        self.batch_norm_epoch = None
        self.stage = TRAINING

    def _sample(self):
        if not self.average.add(self.step.read()):
            self._warn(
                f"the weights of epoch {self.progress.epoch + 1} hold NaN or Inf and "
                f"were not averaged."
            )

    def _may_go_on(self):
        """Whether one more epoch sees all rows once."""
        progress = self.progress
        is_whole = progress.is_whole
        is_whole |= progress.saw_stop and not self.step.repeats_rows
        return is_whole and progress.epoch < progress.epochs - 1

    def _say(self, what):
        self._options.say(self.progress.epoch, what)

    def _warn(self, what):
        self._options.warn(what)


class Progress:
    """Where a `fit` is: epochs and batches, from zero.

    Attributes:
      params: dict, Keras's `params`.
      epoch: int, -1 before the first.
      ended: int, batches of this epoch that ran.
      counted: int, batches of the first epoch; 0: not yet counted.
      saw_stop: bool, whether the last batch left the model told to stop.
      last_epoch: int, the last one that is to run.
    """

    def __init__(self):
        self.params = {"epochs": 1}
        self.epoch, self.ended, self.counted = -1, 0, 0
        self.saw_stop = False
        self._stops_after = None

    @property
    def epochs(self):
        """int: epochs of the run, those before `initial_epoch` among them."""
        return self.params["epochs"]

    @property
    def last_epoch(self):
        return self.epochs - 1 if self._stops_after is None else self._stops_after

    @last_epoch.setter
    def last_epoch(self, epoch):
        self._stops_after = epoch

    @property
    def expected(self):
        """int: batches of an epoch; 0 where a data set has not told yet."""
        return self._told or self.counted

    @property
    def is_whole(self):
        """Whether every batch of the epoch ran."""
        return 0 < self.ended >= self.expected

    @property
    def is_last_batch(self):
        """Whether it is known that no batch follows in this epoch."""
        return 0 < self._told == self.ended

    @property
    def _told(self):
        params = self.params
        if params.get("steps"):
            return int(math.ceil(params["steps"]))
        if params.get("samples") and params.get("batch_size"):
            return int(math.ceil(params["samples"] / params["batch_size"]))
        return 0

    def begin_epoch(self, epoch, params):
        self.params, self.epoch, self.ended = params, epoch, 0

    def end_batch(self, saw_stop):
        self.ended, self.saw_stop = self.ended + 1, saw_stop

    def end_epoch(self):
        self.counted = self.counted or self.ended


def check_state(state, step):
    """Raises ValueError unless a state's average can be that of a step's weights."""
    if not state["n_averaged"]:
        return
    arrays = state["average"]
    weights = [
        variable
        for variable, dtype in zip(step.variables, _dtypes(step.variables))
        if averaging.is_averaged(dtype)
    ]
    if len(arrays) != len(weights):
        raise ValueError(
            f"state must hold {len(weights)} averaged weights for this model, got "
            f"{len(arrays)}."
        )
    for array, weight in zip(arrays, weights):
        expected = tuple(weight.shape.as_list())
        if tuple(array.shape) != expected:
            raise ValueError(
                f"state must hold an average of shape {expected} for weight "
                f"{weight.name!r}, got {tuple(array.shape)}."
            )


def _dtypes(variables):
    return [np.dtype(variable.dtype.as_numpy_dtype) for variable in variables]
