# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How long a run has taken."""

import math
import time


class Clock:
    """Counts seconds by `time.monotonic`, which nobody can set during a run.

    Args:
      began: float, `time.monotonic()` when the program began.
    """

    def __init__(self, began):
        self._began = began
        self._training_began = self._training_ended = math.inf
        self._earlier = {"train_seconds": 0.0, "e2e_seconds": 0.0}

    def add_earlier(self, seconds):
        """Counts what the run took before it was stopped: a dict as of `seconds`."""
        self._earlier = seconds

    def begin_training(self):
        """The training begins now."""
        self._training_began = time.monotonic()

    def end_training(self):
        """The training ends now."""
        self._training_ended = time.monotonic()

    def seconds(self):
        """The seconds by now: {"train_seconds": float, "e2e_seconds": float}."""
        now = time.monotonic()
        trained = min(now, self._training_ended) - min(now, self._training_began)
        seconds = {"train_seconds": trained, "e2e_seconds": now - self._began}
        return {name: seconds[name] + self._earlier[name] for name in seconds}
