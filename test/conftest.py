# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Shared by all tests: the project on the path, and one kit per Keras binding."""

import contextlib
import functools
import gc
import os
import pathlib
import shutil
import signal
import sys
from collections import namedtuple

import numpy as np
import pytest
from support import fork_server, machines, npu_fake
from support.callback_kit import UsedModels

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

LARGE_GRAPH = 4000  # operations
IS_EAGER = os.environ.get("SWA_TEST_MODE") == "eager"

Kit = namedtuple("Kit", "name keras SWA update_bn is_eager used")


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

        made = Kit(name, keras, SWA, update_bn, False, None)
    else:
        if IS_EAGER:
            tf.compat.v1.enable_eager_execution()
        from swa.tfkeras import SWA, update_bn

        made = Kit(name, tf.keras, SWA, update_bn, IS_EAGER, None)
    gc.freeze()  # what was imported stays: not searched through at each collection
    gc.set_threshold(50_000, 20, 20)  # a graph's objects live as long as the graph
    return made


def pytest_configure(config):
    """The marks that say in which mode a test runs; without one: graph mode."""
    config.addinivalue_line("markers", "both_modes: graph mode and eager mode")
    config.addinivalue_line("markers", "only_eager(reason): eager mode alone")
    config.addinivalue_line("markers", "used_models: small models of earlier tests")
    config.addinivalue_line("markers", "new_models: none, although the file has them")


def pytest_collection_modifyitems(config, items):
    """Chooses the tests of this mode; the longest, all of eager mode, begins first."""
    for item in items:
        mark = item.get_closest_marker("only_eager")
        if mark and not IS_EAGER:
            reason = f"only eager mode {mark.args[0]}: test_eager.py runs this"
            item.add_marker(pytest.mark.skip(reason=reason))
    others = [item for item in items if IS_EAGER and not _has_eager_mode(item)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if _has_eager_mode(item)]
    items.sort(key=_place)


def _place(item):
    """The longest test first; those that share the models of a Keras together."""
    is_used = _has_used_models(item)
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    keras = parameters.get("kit", "tf.keras") if is_used else ""
    return item.module.__name__ != "test_eager", not is_used, keras


def _has_used_models(item):
    marks = [mark.name for mark in item.iter_markers()]
    return "used_models" in marks and "new_models" not in marks


def _has_eager_mode(item):
    return any(item.iter_markers("both_modes")) or any(item.iter_markers("only_eager"))


_used = UsedModels()


def _prepared(name, request):
    """Yields a kit with equal seeds: with an empty graph, or with the used models."""
    import tensorflow as tf

    kit_of_name = _kit(name)
    clear = kit_of_name.keras.backend.clear_session
    np.random.seed(0)
    if _has_used_models(request.node):
        operations = tf.compat.v1.get_default_graph().get_operations()
        if len(operations) > LARGE_GRAPH:  # the larger, the slower is each new call
            _used.forget()
            clear()
        tf.compat.v1.set_random_seed(0)
        _used.begin_test()
        yield kit_of_name._replace(used=_used)
    else:
        _used.forget()
        clear()
        tf.compat.v1.set_random_seed(0)
        yield kit_of_name
        clear()


@pytest.fixture(params=["tf.keras"] if IS_EAGER else ["tf.keras", "keras"])
def kit(request):
    """Each Keras and its SWA."""
    yield from _prepared(request.param, request)


@pytest.fixture
def tf_kit(request):
    """The kit of tf.keras alone: stand-alone Keras has no such thing, or equal code."""
    yield from _prepared("tf.keras", request)


@pytest.fixture(scope="session")
def npu_forks():
    """Processes on the fake NPU, forked from one that has TensorFlow."""
    environment = npu_fake.environment(os.devnull)
    client = fork_server.Client(environment, "-W", "ignore")
    yield client
    client.close()


@pytest.fixture
def bare_machine(monkeypatch):
    """A machine without any sign of an NPU, whatever this one is."""
    from swa.training import machine

    monkeypatch.setattr(machine, "DEVICE_FILES", ())
    monkeypatch.setattr(machine, "CANN_FOLDERS", ())
    monkeypatch.setitem(sys.modules, "npu_bridge", None)
    monkeypatch.delitem(sys.modules, "npu_bridge.npu_init", raising=False)


@pytest.fixture
def npu_machine(bare_machine, monkeypatch, tmp_path):
    """A device file, an operator list and an importable npu_bridge; its environment."""
    from swa.training import machine

    (tmp_path / "davinci0").touch()
    monkeypatch.setattr(machine, "DEVICE_FILES", (str(tmp_path / "davinci*"),))
    operators = tmp_path / "opp" / machine.OPERATOR_LIST
    operators.parent.mkdir(parents=True)
    operators.write_text("{}")
    machines.install(
        tmp_path, monkeypatch, init="def npu_clear_session(config=None): pass"
    )
    yield {"ASCEND_OPP_PATH": str(tmp_path / "opp"), "ASCEND_DEVICE_ID": "0"}
    sys.modules.pop("npu_bridge", None)  # ours; monkeypatch puts the old entry back


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """A run of the trainer that nothing stopped: its folder, and what it reported."""
    from support import small_runs

    folder = tmp_path_factory.mktemp("unbroken")
    return folder, small_runs.run(small_runs.config_for(folder))


@pytest.fixture
def copy(unbroken, tmp_path):
    """A copy of the unbroken run's files, without its report."""
    shutil.copytree(str(unbroken[0] / "out"), str(tmp_path / "out"))
    os.unlink(str(tmp_path / "out" / "report.json"))
    return tmp_path
