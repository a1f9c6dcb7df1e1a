# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Which training runs now, and what has become of one that an exception cut off.

No hook is called after an exception or a Ctrl-C. SWA has then still exchanged the
model's rate, weights or train function, until the model is trained again:

    training began in   now called        SWA
    `fit`               in that `fit`     goes on: a callback trains in between
    `fit`, cut off      any training      gives back first
    a loop by hand      train_on_batch    goes on: it is the loop's next batch
    a loop by hand      `fit`             gives back first: the loop was cut off
"""

import sys
import traceback

from swa.lending import Attributes

__all__ = ["Guard"]

_FITS = ("fit", "fit_generator")


class Guard:
    """Stands before a model's training methods from the begin of training to its end.

    Args:
      give_back: function (), which gives back all that SWA has exchanged, and closes
        this.

    Attributes:
      is_open: bool, whether training has begun and not ended.
    """

    def __init__(self, give_back):
        self._give_back = give_back
        self._methods = Attributes()
        self._model = self._error_before = None
        self.is_open = self._began_in_fit = False

    def open(self, model):
        """Training begins: a training method called after it was cut off gives back."""
        self._model, self._error_before = model, sys.exc_info()[1]
        self._began_in_fit = _is_fit_running(model)
        for name in (*_FITS, "train_on_batch"):
            if hasattr(model, name):
                guarded = self._guarded(name, getattr(model, name))
                self._methods.put(model, name, guarded)
        self.is_open = True  # last, because a Ctrl-C may come before

    def close(self):
        """Training has ended."""
        self.is_open = False  # first, because a Ctrl-C may come after
        self._methods.give_back()
        self._model = self._error_before = None

    def is_fit_running(self):
        """Whether this is called from within the `fit` that began."""
        is_in_fit = self.is_open and self._began_in_fit
        return is_in_fit and _is_fit_running(self._model)

    def is_cut_off(self):
        """Whether an exception has ended the `fit` that began."""
        return self.is_open and self._began_in_fit and not _is_fit_running(self._model)

    def is_failing(self):
        """Whether an exception passes: eager `fit` calls the last hooks even then.

        A loop by hand may end in an `except` clause, where one is at hand as well.
        """
        error = sys.exc_info()[1]
        is_new = error is not None and error is not self._error_before
        return self._began_in_fit and is_new

    def check_alone(self, model):
        """Gives back what was cut off, by whichever SWA of the model.

        Raises:
          ValueError: an SWA takes part already in the `fit` of the model that runs now.
        """
        other = getattr(vars(model).get("fit"), "guard", self)
        if other.is_fit_running():
            raise ValueError(
                f"callbacks must hold one SWA in a fit of {model.name!r}, nested fits "
                f"included, got a second."
            )
        for guard in (other, self):
            if guard.is_open:
                guard._give_back()

    def _guarded(self, name, method):
        def guarded(*args, **options):
            is_new_training = name in _FITS and not self._began_in_fit
            if not self.is_open:  # a Ctrl-C came while this was opened or closed
                self._methods.give_back()
            elif is_new_training or self.is_cut_off():
                self._give_back()
            return method(*args, **options)

        guarded.guard, guarded.__name__ = self, name
        return guarded


def _is_fit_running(model):
    """Whether this is called from within Keras's `fit` of a model."""
    for frame, _ in traceback.walk_stack(sys._getframe(1)):
        # the user's own code may have the same names
        is_keras = ".keras." in f".{frame.f_globals.get('__name__')}"
        if is_keras and frame.f_code.co_name in _FITS:
            names = ("self", "model")
            if any(frame.f_locals.get(name) is model for name in names):
                return True
    return False
