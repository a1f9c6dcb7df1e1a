# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Configurations of the Estimator interface: holders of their arguments."""

from fake_device import settings


class _Holder:
    def __init__(self, *args, **options):
        self.args, self.options = args, options


class NPURunConfig(_Holder):
    """For NPUEstimator."""


class ProfilingConfig(_Holder):
    """For NPURunConfig."""


class DumpConfig(_Holder):
    """For NPURunConfig."""


if settings.since("1.2"):

    class DynamicInputConfig(_Holder):
        """For NPURunConfig."""
