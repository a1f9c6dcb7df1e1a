# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""One `fit` with SWA, stage by stage.

Keras's hook                  what happens
on_train_begin                begin: refuses, finds layers, makes operations
on_batch_begin, the first     the epoch begins: its rates are planned, or the pass
on_batch_begin, on_batch_end  mode: sets the next rate, hands over rate and moments
on_test_begin, the last batch end_pass_if_whole: statistics are set
on_epoch_end                  a sample, or an early stop becomes one epoch more
on_train_end                  end: the average is set, all else is given back
"""

import math
import warnings
from collections import namedtuple

import numpy as np

from swa import averaging, batch_norm, schedules
from swa.layers import warn_of_unknown_statistics
from swa.progress import Progress
from swa.rate_control import RateControl
from swa.weights import Weights

__all__ = ["PASS", "NotBegun", "Options", "Run", "check_average"]

TRAINING, PASS, PASSED, SPOILED = "training", "pass", "passed", "spoiled"

# What a callback is made with: schedules.Settings; a function that sums arrays over the
# ranks, or None; a validation.Validation, or None; whether to announce the stages.
Options = namedtuple("Options", "settings sum_over_ranks validation verbose")


class NotBegun:
    """What a `fit` that has yet to begin goes on from.

    Args:
      base_rate: float, the rate from which the schedule is computed; nan: the compiled.
      batches_of_first_epoch: int; 0: not known.
    """

    has_begun = False
    batch_norm_epoch = None
    layers = ()

    def __init__(self, base_rate=math.nan, batches_of_first_epoch=0):
        self.base_rate = base_rate
        self.batches_of_first_epoch = batches_of_first_epoch


class Run:
    """One `fit`, from its beginning to what is left of it afterwards.

        TRAINING --its last epoch begins, n_averaged > 0-->  PASS     (batch norm)
        PASS     --every batch ran-->                        PASSED
        PASS     --every batch ran, one with NaN or Inf-->   SPOILED
        PASS, SPOILED --the epoch ends-->                    TRAINING (all given back)
        an early stop with batch norm and rows left to read: last_epoch = epoch + 1

    The pass is the forward-only epoch, whose number users read as `batch_norm_epoch`.

    Args:
      mode: the model's `swa.graph.GraphMode` or `swa.eager.EagerMode`.
      options: Options.
      params: dict, Keras's.
      average: averaging.Average to add samples to.
      compiled_rate: float, the optimizer's before any callback began; nan: it has none
        that can be set.
      earlier: NotBegun.

    Attributes:
      mode: as given.
      layers: list of the batch-norm layers whose statistics are trained.
      weights: weights.Weights.
      rate_control: rate_control.RateControl.
      progress: progress.Progress.
      stage: str, one of the above.
      batch_norm_epoch: int counted from one, or None.
      final: list of arrays, the average with the statistics of the pass; empty before.
    """

    has_begun = True

    def __init__(self, mode, options, params, average, compiled_rate, earlier):
        self.mode, self._options, self._average = mode, options, average
        self.weights = Weights(mode)
        self.rate_control = RateControl(
            options.settings, mode, compiled_rate, earlier.base_rate
        )
        self.progress = Progress(params, earlier.batches_of_first_epoch)
        self.layers, self._statistics = [], batch_norm.Statistics([])
        self.stage, self.batch_norm_epoch, self.final = TRAINING, None, []
        self._is_ready = False  # whether the model had weights to prepare for

    @property
    def base_rate(self):
        """float: the rate from which the schedule is computed."""
        return self.rate_control.base_rate

    @property
    def batches_of_first_epoch(self):
        """int: 0 until it has ended."""
        return self.progress.batches_of_first_epoch

    # The stages

    def begin(self):
        """Refuses what cannot work.

        Raises:
          ValueError: naming the argument or the layer; the model is then as before.
        """
        self._check_schedule()
        self._make_ready()

    def begin_epoch(self, epoch, params):
        """Says where averaging starts.

        The first batch decides what the epoch is, because the model may have no
        weights before.
        """
        start = self._options.settings.start_epoch - 1
        epoch_before = self.progress.epoch
        self.progress.begin_epoch(epoch, params)
        if epoch_before < start <= epoch:
            self._say("starting stochastic weight averaging")

    def begin_batch(self):
        """Begins the pass or an epoch of training with its first batch."""
        if not self._is_ready:
            self._make_ready()  # the model got its weights from its first batch
        batch = self.progress.batches_done
        if batch == 0 and self._is_pass_due():
            self._begin_pass()
        elif batch == 0:
            self._begin_training_epoch()
        rates = self.rate_control.rates
        rates.batch = batch
        if self.stage is TRAINING:
            self.mode.begin_batch(rates.following)
        elif self.stage is PASS:
            self.mode.begin_batch(math.nan)

    def end_batch(self):
        """Notes what the batch tells; ends the pass with its last batch, if known."""
        rates = self.rate_control.rates
        was_as_planned = rates.is_as_planned
        rates.note_used(self.mode.end_batch())
        if was_as_planned and not rates.is_as_planned:
            _warn(
                "another callback sets the learning rate too: history['lr'] and swa.lr "
                "tell what was used."
            )
        self.progress.end_batch(self.mode.model.stop_training)
        if self.progress.is_last_batch:
            self.end_pass_if_whole()

    def end_pass_if_whole(self):
        """Sets the statistics once no batch follows, if every batch of the pass ran."""
        if self.stage is not PASS or not self.progress.is_whole:
            return
        statistics = self._statistics
        self.mode.give_back()
        statistics.merge_ranks(self._options.sum_over_ranks)
        self.stage = SPOILED
        if statistics.has_batches() and not statistics.non_finite_layers():
            self.final = statistics.with_statistics(
                self.averaged(), self.mode.variables
            )
            self.weights.put(self.final)
            self.rate_control.give_back()
            self.stage = PASSED

    def end_epoch(self):
        """Takes a sample; turns an early stop into one epoch more, the pass."""
        self.end_pass_if_whole()
        progress, model = self.progress, self.mode.model
        self.rate_control.rates.end_epoch(progress.batches_done)
        progress.end_epoch()
        if self.stage in (PASS, SPOILED):
            self._cut_pass_short()
            model.stop_training = True  # because the rows or the user have ended it
        elif self.stage is PASSED:
            # SWA may have added this epoch to a training that was stopped early
            model.stop_training |= not progress.is_last_for_keras
        else:
            is_due = schedules.is_sampled(self._options.settings, progress.epoch)
            if progress.batches_done and is_due:
                self._sample()
            needs_pass = model.stop_training and self._needs_pass()
            if needs_pass and self._sees_all_rows_next():
                progress.last_epoch = progress.epoch + 1  # the pass
                model.stop_training = False

    def end(self):
        """Sets the average, or says why the trained weights stay."""
        self.end_pass_if_whole()
        if self.stage in (PASS, SPOILED):  # a loop by hand has left its last epoch
            self._cut_pass_short()
        if self.stage is PASSED:
            # once more, because later callbacks may have changed the weights
            self.weights.put(self.final)
        elif not self._average.n_averaged:
            _warn("no sample was averaged; the trained weights stay.")
        elif self.layers:
            _warn(
                "training ended before batch normalization could be re-estimated; the "
                "trained weights stay. Place SWA after the callback that stops "
                "training, or call swa.apply(x) with training rows."
            )
        else:
            self.weights.put_over_trained(self.averaged())
            self._say("final model weights set to stochastic weight average")
        self.mode.give_back()
        self.rate_control.end()

    def give_back(self):
        """Gives back the train function, the rate and the weights."""
        self.mode.give_back()
        self.rate_control.give_back()
        self.weights.give_back()

    def averaged(self):
        """The average as arrays in `get_weights()` order, None for integers."""
        return self._average.arrays(_dtypes(self.mode))

    # What the stages do

    def _make_ready(self):
        """Finds and makes all that training needs, once there are weights."""
        model, validation = self.mode.model, self._options.validation
        if not model.built or not model.weights:
            return
        self.layers = self.mode.prepare(self.rate_control.sets_rate)
        self._check_schedule()
        check_average(self._average, self.mode)
        if validation is not None:
            validation.begin(model, self.progress.params, bool(self.layers))
        warn_of_unknown_statistics(model)
        self._is_ready = True

    def _check_schedule(self):
        schedules.check_run(
            self._options.settings,
            self.progress.params["epochs"],
            self.base_rate,
            bool(self.layers),
            self._average.n_averaged,
        )

    def _needs_pass(self):
        return bool(self.layers) and self._average.n_averaged > 0

    def _is_pass_due(self):
        return self._needs_pass() and self.progress.epoch == self.progress.last_epoch

    def _begin_training_epoch(self):
        # a loop by hand may go on after the pass
        self.stage, self.final = TRAINING, []
        epoch, batches = self.progress.epoch, self.progress.batches_expected
        self.rate_control.begin_epoch(epoch, batches)
        if self.rate_control.sets_rate and self._is_ready:
            self.mode.start_training()
        settings = self._options.settings
        is_cyclic = settings.lr_schedule == "cyclic"
        if not batches and is_cyclic and epoch >= settings.start_epoch - 1:
            self._say("data of unknown length, one learning rate for this epoch")

    def _begin_pass(self):
        """Puts the averaged weights and no rate; the statistics begin with no rows."""
        self._statistics = batch_norm.Statistics(self.layers)
        self.weights.put_over_trained(self.averaged())
        self.stage, self.batch_norm_epoch = PASS, self.progress.epoch + 1
        self.rate_control.begin_pass()
        self.mode.start_pass(self._statistics.add)
        self._say("final model weights set to stochastic weight average")
        self._say("reinitializing batch normalization layers")
        self._say("running forward pass to adjust batch normalization")

    def _cut_pass_short(self):
        if self._statistics.non_finite_layers():
            _warn("the rows of the batch-norm epoch hold NaN or Inf.")
        self.give_back()
        self.stage, self.batch_norm_epoch = TRAINING, None

    def _sample(self):
        if not self._average.add(self.mode.read()):
            _warn(
                f"the weights of epoch {self.progress.epoch + 1} hold NaN or Inf and "
                f"were not averaged."
            )

    def _sees_all_rows_next(self):
        """Whether Keras may run one more epoch, and it would see each row once."""
        progress = self.progress
        if progress.is_last_for_keras:
            return False
        if progress.is_whole:  # the next epoch begins with the first row
            return True
        return progress.stopped_in_batch and not self.mode.reads_on_after_a_stop

    def _say(self, what):
        if self._options.verbose > 0:
            print(f"\nEpoch {self.progress.epoch + 1:05d}: {what}", flush=True)


def check_average(average, mode):
    """Refuses an average that cannot be that of a model's weights.

    Args:
      average: averaging.Average.
      mode: the model's `swa.graph.GraphMode` or `swa.eager.EagerMode`.

    Raises:
      ValueError: another number of weights, or another shape, by the weight's name.
    """
    if not average.n_averaged or not mode.variables:  # a model may get them later
        return
    pairs = zip(mode.variables, _dtypes(mode))
    weights = [weight for weight, dtype in pairs if averaging.is_averaged(dtype)]
    if len(average.mean) != len(weights):
        raise ValueError(
            f"state must hold {len(weights)} averaged weights for this model, got "
            f"{len(average.mean)}."
        )
    for array, weight in zip(average.mean, weights):
        shape = tuple(weight.shape.as_list())
        if array.shape != shape:
            raise ValueError(
                f"state must hold an average of shape {shape} for weight "
                f"{weight.name!r}, got {array.shape}."
            )


def _warn(what):
    warnings.warn(f"SWA: {what}", RuntimeWarning, stacklevel=3)


def _dtypes(mode):
    return [np.dtype(variable.dtype.as_numpy_dtype) for variable in mode.variables]
