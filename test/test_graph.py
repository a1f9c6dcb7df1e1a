# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What SWA adds to the graph, to a batch and to the set-up: nothing that grows.

In graph mode, which alone has a graph and session calls.
"""

import collections
import sys

import numpy as np
import pytest
from support.callback_kit import FEATURES, build, data, fit


@pytest.fixture
def calls(monkeypatch):
    """Counts every call into the session, by whichever way."""
    from tensorflow.python.client import session

    counted = []
    run = session.BaseSession.run
    call = session.BaseSession._Callable.__call__

    def counted_run(self, *args, **kwargs):
        counted.append("run")
        return run(self, *args, **kwargs)

    def counted_call(self, *args, **kwargs):
        counted.append("call")
        return call(self, *args, **kwargs)

    monkeypatch.setattr(session.BaseSession, "run", counted_run)
    monkeypatch.setattr(session.BaseSession._Callable, "__call__", counted_call)
    return counted


def operations_of(kit):
    return len(kit.keras.backend.get_session().graph.get_operations())


def by_epoch(kit, counted):
    """A callback that writes down the operations and the calls of each epoch."""

    class Counter(kit.keras.callbacks.Callback):
        operations = []
        calls = []

        def on_epoch_end(self, epoch, logs=None):
            self.operations.append(operations_of(kit))
            self.calls.append(len(counted))

    return Counter()


@pytest.mark.parametrize("schedule", ["manual", "cyclic"])
def test_the_graph_is_complete_when_training_begins(kit, calls, schedule):
    model = build(kit)
    settings = (3, schedule, 0.01, 0.05, 2)
    swa = kit.SWA(*settings)
    counter = by_epoch(kit, calls)
    fit(model, swa, counter, epochs=7)
    fit(model, swa, counter, epochs=7)
    fit(model, kit.SWA(*settings), counter, epochs=7)
    assert len(set(counter.operations[1:7])) == 1
    # Keras's own evaluation and metrics aside, a second fit makes no operation, with
    # the same callback or a new one
    assert counter.operations[13] == counter.operations[20] == counter.operations[6]


@pytest.mark.parametrize("schedule", ["manual", "cyclic"])
def test_a_batch_adds_no_call_and_a_sample_one(kit, calls, schedule):
    model = build(kit)
    added = {}
    for batch_size in (10, 25):  # 5 and 2 batches an epoch
        plain = by_epoch(kit, calls)
        with_swa = by_epoch(kit, calls)
        fit(model, plain, epochs=7, batch_size=batch_size)
        swa = kit.SWA(3, schedule, 0.01, 0.05, 2)
        fit(model, swa, with_swa, epochs=7, batch_size=batch_size)
        added[batch_size] = np.diff(with_swa.calls) - np.diff(plain.calls)
    rates = int(schedule != "manual")
    sample = np.array([0, 1, 0, 1, 0])
    # manual samples each second epoch from the third on as well
    np.testing.assert_array_equal(added[10][:-1], rates + sample)
    # the last epoch: trained weights aside, average and statistics in, the rate and
    # back
    assert added[10][-1] <= 7
    np.testing.assert_array_equal(added[10], added[25])


@pytest.mark.parametrize("schedule", ["manual", "cyclic"])
def test_a_second_fit_builds_no_call_of_the_session(kit, schedule, monkeypatch):
    from tensorflow.python.client import session

    built = []
    make = session.BaseSession._make_callable_from_options

    def counted_make(self, *args, **kwargs):
        built.append(1)
        return make(self, *args, **kwargs)

    monkeypatch.setattr(
        session.BaseSession, "_make_callable_from_options", counted_make
    )
    model = build(kit)
    swa = kit.SWA(3, schedule, 0.01, 0.05, 2)
    plain = kit.keras.callbacks.Callback()
    fit(model, swa)
    fit(model, plain)
    assert not model.train_function.feed_dict  # Keras's own form, without rates
    first = len(built)
    assert first == (2 if schedule == "manual" else 3)  # plain, rates, last epoch
    fit(model, swa)
    fit(model, plain)
    assert len(built) == first


def test_update_bn_does_not_make_the_graph_grow(kit):
    model = build(kit)
    x = data()[0]
    kit.update_bn(model, x)
    before = operations_of(kit)
    kit.update_bn(model, x)
    assert operations_of(kit) == before


# Set-up


def deep(kit, number):
    """A model of `number` batch-norm layers, ready to train."""
    layers = kit.keras.layers
    model = kit.keras.Sequential([layers.Dense(4, input_shape=(FEATURES,))])
    for _ in range(number):
        model.add(layers.BatchNormalization())
    model.compile(kit.keras.optimizers.SGD(0.01), "mse")
    model._make_train_function()
    return model


def calls_of_set_up(kit, model):
    """How many Python functions are called when training with SWA begins."""
    swa = kit.SWA(2)
    events = collections.Counter()

    def count(frame, event, argument):
        events[event] += 1

    swa.set_model(model)
    swa.set_params({"epochs": 3, "steps": 1})
    sys.setprofile(count)
    try:
        swa.on_train_begin()
    finally:
        sys.setprofile(None)
    swa.restore()
    return events["call"]


def test_set_up_grows_in_proportion_with_the_layers(kit):
    few, many = [calls_of_set_up(kit, deep(kit, number)) for number in (2, 8)]
    # below the 4 times of the layers, since some work is the same for any model
    assert many < 4 * few
