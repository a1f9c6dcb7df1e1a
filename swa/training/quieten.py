# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Keeps what TensorFlow says of itself out of a run's log."""

import os
import warnings


def tensorflow(verbose):
    """Silences TensorFlow's notes; comes before its first import.

    Args:
      verbose: int; 2 shows them.
    """
    if verbose > 1:
        return
    # 3: without a GPU, its search for one is logged as an error
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning)  # its numpy dtypes
    import tensorflow as tf

    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
