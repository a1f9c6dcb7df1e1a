# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""From Keras to the Estimator interface: not faked."""


def model_to_npu_estimator(keras_model=None, **options):
    """Not faked."""
    raise NotImplementedError("the fake has no NPUEstimator")
