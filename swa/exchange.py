# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What SWA puts into a model for a while, and how it is given back.

One rule everywhere: giving back looks first. What is no longer as SWA left it has
been changed by the user, and stays.
"""

import contextlib
import sys
import traceback

import numpy as np

_METHODS = ("fit", "fit_generator", "train_on_batch")
_ABSENT = object()


class Replaced:
    """Attributes that SWA has put in the place of others, until they are given back."""

    def __init__(self):
        self._notes = []  # (owner, name, value before or _ABSENT, value of ours)

    def put(self, owner, name, ours):
        """Sets an object's attribute, past Keras, which would track its variables."""
        self._notes.append((owner, name, vars(owner).get(name, _ABSENT), ours))
        vars(owner)[name] = ours

    def give_back(self):
        """Sets what was there before, where the attribute is still ours."""
        while self._notes:
            owner, name, before, ours = self._notes[-1]
            if vars(owner).get(name) is ours:
                if before is _ABSENT:
                    del vars(owner)[name]
                else:
                    vars(owner)[name] = before
            self._notes.pop()


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
    def is_average_there(self):
        """Whether the model has what SWA put in last, untouched."""
        return bool(self._placed) and _are_of(self._step.read(), self._placed[-1:])

    def place_over_trained(self, arrays):
        """As `place`, and keeps what is there: the last trained weights of the run."""
        self._trained, self._aside = None, None
        self.place(arrays)
        self._trained = self._aside

    def place(self, arrays):
        """Puts `arrays` into the model.

        Args:
          arrays: list of arrays, or of None where a weight stays as it is.
        """
        if self._aside is None:
            self._aside, self._placed = _copies(self._step.read()), []
        # noted before and after: a Ctrl-C may come in between
        self._placed = self._placed + [arrays]
        self._step.put(arrays)
        self._placed = [arrays]

    def give_back(self):
        """Puts back what was there, unless the user has changed it meanwhile."""
        sets = self._placed + [self._aside]
        if self._placed and _are_of(self._step.read(), sets):
            self._step.put(self._aside)
            self._trained = None  # else they can still be lent
        self._aside, self._placed = None, []

    @contextlib.contextmanager
    def lent(self, keeps=False):
        """Afterwards the model has what it had before, exactly.

        Args:
          keeps: bool, whether it keeps what it was given, unless the body raises.
        """
        record, before = (self._aside, self._placed), _copies(self._step.read())
        if not self._placed or not _are_of(before, self._placed + [self._aside]):
            self._aside, self._placed = before, []
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if not (keeps and is_done):
                self._step.put(before)
                self._aside, self._placed = record


def _are_of(current, sets):
    """Whether each array is the one of some set; None stands for any."""
    return all(
        any(one is None or np.array_equal(array, one) for one in candidates)
        for array, candidates in zip(current, zip(*sets))
    )


def _copies(arrays):
    """A reference variable's array shares the memory of the variable."""
    return [np.array(array) for array in arrays]


class Guard:
    """Stands before a model's training methods while a callback takes part in `fit`.

    Training that raises calls no further hook: what the callback holds is then given
    back when the model trains again, by whichever method.

    Args:
      callback: the callback that takes part; its `restore` gives everything back.
      model: the model that trains.
      follow: function without arguments, called when Keras has made a train function.
    """

    def __init__(self, callback, model, follow):
        self._callback, self._model, self._follow = callback, model, follow
        self._replaced = Replaced()
        self._error_before = sys.exc_info()[1]
        self._is_fit = bool(lists_on_stack(callback))  # else a loop of the user's

    def open(self):
        """From here to `close`, training that was cut off is ended before new one."""
        for name in _METHODS + ("_make_train_function",):
            method = getattr(self._model, name, None)
            if method is not None:
                self._replaced.put(self._model, name, self._standing_before(method))

    def close(self):
        """Gives the methods back that are still as they were left."""
        self._replaced.give_back()

    def is_failing(self):
        """Whether eager `fit` calls a last hook although an exception passes."""
        error = sys.exc_info()[1]
        return self._is_fit and error is not None and error is not self._error_before

    def is_cut_off(self):
        """Whether the `fit` that began is no longer there."""
        return self._is_fit and not lists_on_stack(self._callback)

    def _standing_before(self, method):
        is_make = method.__name__ not in _METHODS

        def stand_before(*args, **options):
            if not is_make and self.is_cut_off():
                self._callback.restore()
            result = method(*args, **options)
            if is_make:  # also in mid-training, where sample weights first come
                self._follow()
            return result

        stand_before.callback, stand_before.__name__ = self._callback, method.__name__
        return stand_before


def check_alone(callback, model):
    """Ends what was cut off; refuses a second SWA in one `fit` of a model.

    Raises:
      ValueError: another one takes part, or this one in a `fit` around this.
    """
    other = getattr(vars(model).get("fit"), "callback", None)
    is_other_there = other is not callback and lists_on_stack(other)
    members = [one for held in lists_on_stack(callback) for one in held.callbacks]
    if is_other_there or sum(one is callback for one in members) > 1:
        raise ValueError(
            f"callbacks must hold one SWA in a fit of {model.name!r}, "
            f"nested fits included, got a second."
        )
    if other is not None:
        other.restore()


def lists_on_stack(callback):
    """Keras's callback lists that hold `callback` and whose `fit` runs now."""
    found = {}
    caller = sys._getframe(1)  # its own locals would hold it
    for frame, _ in traceback.walk_stack(caller):
        if ".keras." not in f".{frame.f_globals.get('__name__')}":
            continue  # the user's names may be the same
        for name in ("callbacks", "training_callbacks"):
            held = frame.f_locals.get(name)
            if any(one is callback for one in getattr(held, "callbacks", None) or ()):
                found[id(held)] = held
    return list(found.values())
