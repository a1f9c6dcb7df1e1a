# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The function that Keras runs for each batch in graph mode, and its forms.

Public attributes say what it fetches, updates and is fed. These three together are
called a form here. Keras builds a call for a form at its first use, which takes seconds
on a deep network and a compilation on an NPU. The built calls are therefore kept.
"""

import functools

__all__ = ["Forms", "is_of_keras"]


def is_of_keras(function):
    """Whether a train function is Keras's own, and not a wrapper of the user's."""
    return hasattr(function, "fetch_callbacks")


class Forms:
    """Gives a train function other forms, and its own form back.

    Args:
      function: `model.train_function`, or None where it is not made yet.

    Attributes:
      values: dict, what the current batch has fetched for SWA, by tensor.
    """

    def __init__(self, function):
        self._function, self.values = function, {}
        self._is_changed, self._fetches = False, []
        self._own_updates_op = self._own_feed_dict = None

    def change(self, fetches, updates_op, feed_dict):
        """Gives it another form.

        Args:
          fetches: list of tensors, fetched beside its own. `values` gets what they
            have in the first call after it was cleared. A callback may call the
            function once more.
          updates_op: operation to run in the place of its own.
          feed_dict: dict to feed, or None.
        """
        function = self._function
        self._fetches = fetches
        self._own_updates_op = function.updates_op
        self._own_feed_dict = function.feed_dict
        self._is_changed = True
        for tensor in fetches:
            keep_first = functools.partial(self.values.setdefault, tensor)
            function.fetch_callbacks[tensor] = keep_first
        _exchange(function, [*function.fetches, *fetches], updates_op, feed_dict)

    def give_back(self):
        """Gives it its own form back; what others have added to its fetches stays."""
        if not self._is_changed:
            return
        function = self._function
        others = [tensor for tensor in function.fetches if tensor not in self._fetches]
        _exchange(function, others, self._own_updates_op, self._own_feed_dict)
        for tensor in self._fetches:
            function.fetch_callbacks.pop(tensor, None)
        self._is_changed = False


def _exchange(function, fetches, updates_op, feed_dict):
    """Exchanges all attributes of a form in one update.

    A Ctrl-C then leaves one form or the other, and no mixture. Keras keeps its built
    call in private attributes, and compares inputs, fetches and session with those
    that the call was built for.
    """
    attributes = vars(function)
    built_calls = attributes.setdefault("_swa_built_calls", {})
    # of the form that is left now
    built_calls[(function.updates_op, *function.fetches)] = {
        name: value
        for name, value in attributes.items()
        if name.startswith("_") and not name.startswith("_swa")
    }
    not_built = {"_callable_fn": None}
    attributes.update(
        built_calls.get((updates_op, *fetches), not_built),
        fetches=fetches,
        updates_op=updates_op,
        feed_dict=feed_dict,
    )
