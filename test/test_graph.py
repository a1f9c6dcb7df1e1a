# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the callback adds to the graph and to a batch: nothing that grows."""

import numpy as np
import pytest
from test_callback import build, data, fit


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


def by_epoch(kit, counted):
    """A callback that writes down the operations and the calls of each epoch."""

    class Counter(kit.keras.callbacks.Callback):
        operations, calls = [], []

        def on_epoch_end(self, epoch, logs=None):
            graph = kit.keras.backend.get_session().graph
            self.operations.append(len(graph.get_operations()))
            self.calls.append(len(counted))

    return Counter()


@pytest.mark.parametrize("schedule", ["manual", "constant", "cyclic"])
def test_the_graph_is_complete_when_training_begins(kit, calls, schedule):
    model, swa = build(kit), kit.SWA(3, schedule, 0.01, 0.05, 2)
    counter = by_epoch(kit, calls)
    fit(model, swa, counter)
    fit(model, swa, counter)
    assert len(set(counter.operations[1:7])) == 1
    # Keras's own evaluation and metrics aside, a second fit makes no operation
    assert counter.operations[-1] == counter.operations[6]


@pytest.mark.parametrize("schedule", ["manual", "constant", "cyclic"])
def test_a_batch_adds_no_call_and_a_sample_one(kit, calls, schedule):
    model = build(kit)
    added = {}
    for batch_size in (10, 25):  # 5 and 2 batches an epoch
        plain, with_swa = by_epoch(kit, calls), by_epoch(kit, calls)
        fit(model, plain, batch_size=batch_size)
        swa = kit.SWA(3, schedule, 0.01, 0.05, 2)
        x, y = data()
        model.fit(
            x, y, batch_size=batch_size, epochs=7, verbose=0, callbacks=[swa, with_swa]
        )
        added[batch_size] = np.diff(with_swa.calls[-7:]) - np.diff(plain.calls[-7:])
    rates, sample = int(schedule != "manual"), np.array([0, 1, 0, 1, 0])
    # manual samples each second epoch from the third on as well
    np.testing.assert_array_equal(added[10][:-1], rates + sample)
    # the pass: trained weights aside, average and statistics in, the rate and back
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
    model, swa = build(kit), kit.SWA(3, schedule, 0.01, 0.05, 2)
    fit(model, swa)
    fit(model, kit.keras.callbacks.Callback())  # without SWA
    first = len(built)
    assert first == (2 if schedule == "manual" else 3)  # plain, ramp, pass
    fit(model, swa)
    fit(model, kit.keras.callbacks.Callback())
    assert len(built) == first
