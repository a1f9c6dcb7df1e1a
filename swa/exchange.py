# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What SWA puts into a model for a while, and how it is given back.

One rule everywhere: giving back looks first. What is no longer as SWA left it has
been changed by the user, and stays.
"""

import contextlib
import sys

import numpy as np


class Weights:
    """The weights that SWA puts into a model, and those that were there.

    Args:
      step: the model's step, of `swa.steps`.
    """

    def __init__(self, step):
        self._step = step
        self._aside = None  # list of arrays: what was there
        self._placed = []  # lists of arrays or None: what SWA has put in since
        self._trained = None  # the last trained weights of the run

    @property
    def trained(self):
        """List of arrays: the trained weights, where the model has others; or None."""
        return self._trained or self._aside

    @property
    def placed(self):
        """List of arrays or None: what SWA has put in last."""
        return self._placed[-1]

    @property
    def is_average_there(self):
        """Whether the model has what SWA put in last, untouched."""
        current = self._step.read() if self._placed else []
        return bool(self._placed) and _are_equal(current, self.placed)

    def take_trained_aside(self):
        """Keeps what the model has now, the last trained weights of the run."""
        self._trained = self._aside = _copies(self._step.read())
        self._placed = []

    def place(self, arrays):
        """Puts `arrays` into the model; None leaves a weight as it is."""
        # noted before and after: a Ctrl-C may come in between
        self._placed = self._placed + [arrays]
        self._step.put(arrays)
        self._placed = [arrays]

    def give_back(self):
        """Puts back what was there, unless the user has changed it meanwhile."""
        if self._placed and self._are_placed(self._step.read()):
            self._step.put(self._aside)
        self._aside, self._trained, self._placed = None, None, []

    @contextlib.contextmanager
    def lent(self):
        """Afterwards the model has what it had before, exactly, whatever happens."""
        record, before = self._put_aside()
        try:
            yield
        finally:
            self._step.put(before)
            self._aside, self._placed = record

    @contextlib.contextmanager
    def kept_on_error(self):
        """If its body raises, the model has what it had before."""
        record, before = self._put_aside()
        try:
            yield
        except BaseException:
            self._step.put(before)
            self._aside, self._placed = record
            raise

    def _put_aside(self):
        """Keeps what the model has now, unless that is SWA's own."""
        record = self._aside, self._placed
        before = _copies(self._step.read())
        if not self._are_placed(before):
            self._aside, self._placed = before, []
        return record, before

    def _are_placed(self, current):
        """Whether each weight is one that SWA put there, or had found there."""
        if not self._placed:
            return False
        sets = self._placed + [self._aside]
        return all(
            any(one is None or np.array_equal(array, one) for one in candidates)
            for array, candidates in zip(current, zip(*sets))
        )


def _are_equal(current, arrays):
    """Whether two sets are the same, None meaning any."""
    pairs = zip(current, arrays)
    return all(one is None or np.array_equal(array, one) for array, one in pairs)


def _copies(arrays):
    """A reference variable's array shares the memory of the variable."""
    return [np.array(array) for array in arrays]


class Guard:
    """Stands before a model's training methods while a callback takes part in `fit`.

    Training that raises calls no further hook: what the callback holds is then given
    back when the model trains again, by whichever method.

    Args:
      callback: the callback that takes part.
      model: the model that trains.
      end: function without arguments that gives everything back.
      follow: function without arguments, called when Keras has made a train function.
    """

    _METHODS = ("fit", "fit_generator", "train_on_batch")

    def __init__(self, callback, model, end, follow):
        self._callback, self._model, self._end = callback, model, end
        self._follow = follow
        self._replaced = []  # (name, value before or None, value of ours)
        self._error_before = sys.exc_info()[1]

    @property
    def is_open(self):
        """Whether it stands there."""
        return bool(self._replaced)

    def open(self):
        """From here to `close`, training that was cut off is ended before new one."""
        if self.is_open:
            return
        for name in self._METHODS:
            self._replace(name, self._ending_first(getattr(self._model, name)))
        if hasattr(self._model, "_make_train_function"):
            self._replace(
                "_make_train_function",
                self._following(self._model._make_train_function),
            )

    def close(self):
        """Gives the methods back that are still as they were left."""
        while self._replaced:
            name, before, ours = self._replaced[-1]
            if vars(self._model).get(name) is ours:
                del vars(self._model)[name]
                if before is not None:
                    vars(self._model)[name] = before
            self._replaced.pop()

    def is_failing(self):
        """Whether eager `fit` calls a last hook although an exception passes."""
        error = sys.exc_info()[1]
        return error is not None and error is not self._error_before

    def _replace(self, name, ours):
        self._replaced.append((name, vars(self._model).get(name), ours))
        vars(self._model)[name] = ours

    def _ending_first(self, method):
        has_list = bool(lists_on_stack(self._callback))  # else a loop of the user's

        def end_first(*args, **options):
            if has_list and not lists_on_stack(self._callback):
                self._end()
            return method(*args, **options)

        end_first.guard = self
        return end_first

    def _following(self, make):
        # Keras makes it anew in mid-training where sample weights first come.
        def make_and_follow():
            make()
            self._follow()

        return make_and_follow

    @classmethod
    def check_alone(cls, callback, model):
        """Ends what was cut off; refuses a second SWA in one `fit` of a model.

        Raises:
          ValueError: another one takes part, or this one in a `fit` around this.
        """
        other = getattr(vars(model).get("fit"), "guard", None)
        is_second = len(lists_on_stack(callback)) > 1
        if other and other._callback is not callback:
            is_second |= bool(lists_on_stack(other._callback))
        if is_second:
            raise ValueError(
                f"callbacks must hold one SWA in a fit of model {model.name!r}, nested "
                f"fits included, got a second. Take one out."
            )
        if other:
            other._end()


def lists_on_stack(callback):
    """Keras's callback lists that hold `callback` and whose `fit` runs now."""
    found = {}
    frame = sys._getframe()
    while frame is not None:
        for name in ("callbacks", "training_callbacks"):
            held = frame.f_locals.get(name)
            if any(one is callback for one in getattr(held, "callbacks", None) or ()):
                found[id(held)] = held
        frame = frame.f_back
    return list(found.values())
