# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How signals reach a run. What they do to a real one: test_faults.py."""

import io
import os
import signal
import sys

import pytest

from swa.training import console, stopping


@pytest.fixture(autouse=True)
def untouched():
    """Whatever a test does, the handlers are as they were before it."""
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    yield
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_signal_ends_what_runs(number):
    with stopping.Stop() as stop:
        with pytest.raises(stopping.Stopped):
            send(number)
            pytest.fail("it went on")
    assert stop.status == 128 + number


def test_a_deferred_signal_is_only_noted_until_the_end():
    reached = []
    with stopping.Stop() as stop:
        with pytest.raises(stopping.Stopped):
            with stop.deferred():
                assert stop.number is None
                send(signal.SIGTERM)
                reached.append(stop.number)
    assert reached == [signal.SIGTERM]


def test_an_error_passes_through_deferred():
    with stopping.Stop() as stop:
        with pytest.raises(KeyError):
            with stop.deferred():
                raise KeyError("bug")


def test_no_handler_for_errors_catches_it():
    assert not issubclass(stopping.Stopped, Exception)


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stopping.Stop() as stop:
            send(signal.SIGHUP)
        assert stop.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_wakeup_file_is_given_back():
    with stopping.Stop():
        pass
    assert signal.set_wakeup_fd(-1) == -1


def test_it_is_told_how_to_go_on(capsys):
    stop = stopping.Stop()
    stop.number, stop.saved_epoch = signal.SIGTERM, 7
    stop.tell()
    assert capsys.readouterr().out == (
        "stopped by SIGTERM; saved after epoch 7. To go on, give the same command with "
        "--resume.\n"
    )


def test_it_is_told_on_a_line_of_its_own(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", console.LastingStream(stream))
    sys.stdout.write("3/8 [====>")
    stop = stopping.Stop()
    stop.number = signal.SIGINT
    stop.tell()
    told = stream.getvalue().splitlines()
    assert told == ["3/8 [====>", "stopped by SIGINT before an epoch began."]
