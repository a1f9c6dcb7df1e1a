# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Which training runs now, and what happens to one that an exception has cut off.

No hook is called after an exception or a Ctrl-C. SWA has then still exchanged the
model's rate, weights or train function, until the model is trained again:

    training began in   now called          SWA
    `fit`               in that `fit`       goes on: a callback trains in between
    `fit`, cut off      any training        gives back first
    a loop by hand      train_on_batch      goes on: it is the loop's next batch
    a loop by hand      `fit`               gives back first: the loop was cut off
    a loop by hand      on_train_begin      gives back first: the loop was cut off
"""

import sys
import traceback

from swa.lending import Attributes

__all__ = ["Guard", "is_array_loop_running"]

_FITS = ("fit", "fit_generator")


class Guard:
    """Wraps a model's training methods from the beginning of training to its end.

    Attributes:
      is_open: bool, whether training has begun and not ended.
    """

    def __init__(self):
        self._give_back = _nothing
        self._methods = Attributes()
        self._model = self._error_before = None
        self.is_open = self._began_in_fit = False

    def open(self, model, give_back):
        """Training begins. If it is cut off, the next training method gives back.

        Args:
          model: the model.
          give_back: function (), which gives back all that SWA has exchanged, and
            calls `close`.
        """
        self._give_back = give_back
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
        # otherwise a callback that is not used again would wait for the collector
        self._give_back = _nothing

    def is_fit_running(self):
        """Whether this is called from within the `fit` that began."""
        is_in_fit = self.is_open and self._began_in_fit
        return is_in_fit and _is_fit_running(self._model)

    def is_fit_cut_off(self):
        """Whether an exception has ended the `fit` that began."""
        return self.is_open and self._began_in_fit and not _is_fit_running(self._model)

    def is_failing(self):
        """Whether an exception is on its way: eager `fit` calls the last hooks then.

        A loop by hand may call them in an `except` clause, and is not failing.
        """
        error = sys.exc_info()[1]
        is_new = error is not None and error is not self._error_before
        return self._began_in_fit and is_new

    def end_cut_off(self, model):
        """Gives back what training has left that was cut off, by any SWA of the model.

        Args:
          model: the model whose training begins.

        Returns:
          bool, whether there was any.

        Raises:
          ValueError: an SWA takes part already in the `fit` of the model that runs now.
        """
        wrapper = vars(model).get("fit")
        other = getattr(wrapper, "guard", self)  # of the SWA that has wrapped `fit`
        if other.is_fit_running():
            raise ValueError(
                f"callbacks must hold one SWA in a fit of {model.name!r}, nested fits "
                f"included, got a second."
            )
        cut_off = [guard for guard in {other, self} if guard.is_open]
        for guard in cut_off:
            guard._give_back()
        return bool(cut_off)

    def _guarded(self, name, method):
        def guarded(*args, **options):
            is_loop_cut_off = name in _FITS and not self._began_in_fit
            if not self.is_open:  # a Ctrl-C came while this was opened or closed
                self._methods.give_back()
            elif is_loop_cut_off or self.is_fit_cut_off():
                self._give_back()
            return method(*args, **options)

        guarded.guard, guarded.__name__ = self, name
        return guarded


def _nothing():
    pass


def is_array_loop_running(model):
    """Whether Keras trains a model in its loop over arrays.

    It fetches the train function once, when it begins.
    """
    return _is_running(model, "training_arrays", ("fit_loop", "model_iteration"))


def _is_fit_running(model):
    """Whether this is called from within Keras's `fit` of a model."""
    return _is_running(model, "", _FITS)


def _is_running(model, module, functions):
    """Whether this is called from within one of Keras's functions for a model.

    Args:
      model: the model.
      module: str, the end of the name of the module that has the functions.
      functions: sequence of str, their names. The user's code may have the same ones.
    """
    for frame, _ in traceback.walk_stack(sys._getframe(1)):
        name = f".{frame.f_globals.get('__name__')}"
        if frame.f_code.co_name in functions and ".keras." in name:
            models = (frame.f_locals.get("self"), frame.f_locals.get("model"))
            if name.endswith(module) and any(m is model for m in models):
                return True
    return False
