# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Shared by all tests: the project on the path, and one kit per Keras binding."""

import contextlib
import functools
import gc
import os
import pathlib
import signal
import sys
from collections import namedtuple

import numpy as np
import pytest
from support import fork_server, npu_fake

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# what runs the tests may have had these ignored, here and in children: a shell in its
# background, nohup
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

with contextlib.suppress(ImportError):  # its tests are skipped
    import hypothesis

    # neither a slow machine nor an example drawn by chance may make a test fail
    hypothesis.settings.register_profile(
        "same each time", deadline=None, derandomize=True, database=None
    )
    hypothesis.settings.load_profile("same each time")

IS_EAGER = os.environ.get("SWA_TEST_MODE") == "eager"

Kit = namedtuple("Kit", "name keras SWA update_bn is_eager")


@functools.lru_cache(maxsize=None)
def _kit(name):
    import tensorflow as tf
    from tensorflow.python.util import deprecation

    tf.compat.v1.logging.set_verbosity("ERROR")
    # of TensorFlow's time to build a graph, a fifth goes into warnings not shown
    deprecation._PRINT_DEPRECATION_WARNINGS = False
    if name == "keras":
        keras = pytest.importorskip("keras")
        from swa.keras import SWA, update_bn

        made = Kit(name, keras, SWA, update_bn, False)
    else:
        if IS_EAGER:
            tf.compat.v1.enable_eager_execution()
        from swa.tfkeras import SWA, update_bn

        made = Kit(name, tf.keras, SWA, update_bn, IS_EAGER)
    gc.freeze()  # what was imported stays: not searched through at each collection
    return made


def pytest_collection_modifyitems(items):
    """The longest, whole modules in eager mode, begin first: no core ends up idle."""
    items.sort(key=lambda item: item.module.__name__ != "test_eager")


@pytest.fixture(params=["tf.keras"] if IS_EAGER else ["tf.keras", "keras"])
def kit(request):
    """A Keras and its SWA, with a fresh graph and equal seeds."""
    import tensorflow as tf

    made = _kit(request.param)
    made.keras.backend.clear_session()
    np.random.seed(0)
    tf.compat.v1.set_random_seed(0)
    yield made
    made.keras.backend.clear_session()


@pytest.fixture
def tf_kit():
    """The kit of tf.keras alone, where stand-alone Keras has no such thing."""
    import tensorflow as tf

    made = _kit("tf.keras")
    made.keras.backend.clear_session()
    np.random.seed(0)
    tf.compat.v1.set_random_seed(0)
    yield made
    made.keras.backend.clear_session()


@pytest.fixture(scope="session")
def npu_forks():
    """Processes on the fake NPU, forked from one that has TensorFlow."""
    environment = npu_fake.environment(os.devnull)
    client = fork_server.Client(environment, "-W", "ignore")
    yield client
    client.close()
