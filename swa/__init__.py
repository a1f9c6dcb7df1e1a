# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Stochastic Weight Averaging for Keras on TensorFlow 1.15.

`swa.tfkeras.SWA` is the callback for `tf.keras`, `swa.keras.SWA` the one for
stand-alone Keras 2.3.1. Importing this package imports no framework.

Reference: Izmailov et al., 2018, arXiv:1803.05407.
"""

__version__ = "2.0.0"
