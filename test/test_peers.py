# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What other implementations of weight averaging promise, asked of this one.

The behaviour that PyTorch's `swa_utils`, TensorFlow Addons' `SWA`, Lightning's
callbacks and Keras's `SwapEMAWeights` test for, in tests of our own.
`test_eager.py` runs this file once more with SWA_TEST_MODE=eager.
"""

import json

import numpy as np
import pytest
from test_callback import (
    STATISTICS,
    build,
    data,
    equal,
    mean_of,
    recorder,
)

pytestmark = pytest.mark.both_modes


def run(model, callbacks, **options):
    """`fit` of one batch per epoch, so that an epoch is a step."""
    x, y = options.pop("data", None) or data()
    options = dict(dict(batch_size=len(x), epochs=7, shuffle=False), **options)
    return model.fit(x, y, verbose=0, callbacks=callbacks, **options)


# PyTorch


def test_lightning_a_crashed_run_goes_on_from_its_files(kit, tmp_path):
    crash = 4  # from zero: there is one sample, the second would follow
    settings, options = (4, "cyclic", 0.01, 0.05, 2), dict(epochs=7, batch_size=25)
    model, other = build(kit), build(kit)
    other.set_weights(model.get_weights())
    swa = kit.SWA(*settings)
    run(other, [swa], **options)
    path, unbroken = str(tmp_path / "model.h5"), other.get_weights()
    swa = kit.SWA(*settings)

    class Save(kit.keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == crash:
                raise OSError("the machine is gone")

        def on_epoch_end(self, epoch, logs=None):
            self.model.save(path)
            state = swa.state
            np.savez(str(tmp_path / "average.npz"), *state.pop("average"))
            (tmp_path / "state.json").write_text(json.dumps(state))

    with pytest.raises(OSError, match="gone"):
        run(model, [swa, Save()], **options)
    kit.keras.backend.clear_session()
    again, resumed = kit.SWA(*settings), kit.keras.models.load_model(path)
    state = json.loads((tmp_path / "state.json").read_text())
    with np.load(str(tmp_path / "average.npz"), allow_pickle=False) as file:
        state["average"] = [file[name] for name in file.files]
    again.load_state(state)
    seen = recorder(kit)
    run(resumed, [again, seen], initial_epoch=crash, **options)
    planned = again.plan(7, 2, 0.1).rates[crash:].ravel()
    np.testing.assert_allclose(seen.rates, planned, rtol=1e-6)
    assert equal(resumed.get_weights(), unbroken)


# Keras's SwapEMAWeights


def trained(kit):
    """A model after training, its callback, and the last trained weights."""
    model, swa, seen = build(kit), kit.SWA(3), recorder(kit)
    run(model, [swa, seen], epochs=5, batch_size=25)
    return model, swa, seen.weights[3]


def test_keras_swapping_twice_is_the_identity(kit):
    model, swa, last = trained(kit)
    average = model.get_weights()
    for _ in range(2):
        with swa.trained_weights():
            assert equal(model.get_weights(), last)
            assert not equal(last, average)
        assert equal(model.get_weights(), average)


def test_keras_swaps_nest(tf_kit):
    model, swa, last = trained(tf_kit)
    x = data()[0]
    swa.restore()
    with swa.average_applied(x):
        average = model.get_weights()
        with swa.trained_weights():
            assert equal(model.get_weights(), last)
        assert equal(model.get_weights(), average)
        with swa.average_applied(x):  # it is already
            assert equal(model.get_weights(), average)
        assert equal(model.get_weights(), average)
    assert equal(model.get_weights(), last)


def test_keras_a_failure_within_a_swap_swaps_back(tf_kit):
    model, swa, last = trained(tf_kit)
    swa.restore()
    with pytest.raises(OSError):
        with swa.average_applied(data()[0]):
            assert not equal(model.get_weights(), last)
            raise OSError
    assert equal(model.get_weights(), last)


def test_keras_a_reloaded_file_evaluates_as_the_swapped_model(kit, tmp_path):
    model, swa, path = build(kit), kit.SWA(3), str(tmp_path / "model.h5")
    held_out, found = data(7, 20), []

    class Swap(kit.keras.callbacks.Callback):
        def on_epoch_end(self, now, logs=None):
            if now == 3:
                with swa.average_applied(data()[0]):
                    found.extend(self.model.evaluate(*held_out, verbose=0))
                    self.model.save(path)

    seen = recorder(kit)
    run(model, [seen, swa, Swap()], epochs=6, batch_size=25)
    loaded = kit.keras.models.load_model(path)
    np.testing.assert_allclose(loaded.evaluate(*held_out, verbose=0), found, rtol=1e-6)
    sampled = mean_of(seen.weights[2:4])
    for index in set(range(8)) - set(STATISTICS):
        np.testing.assert_allclose(
            loaded.get_weights()[index], sampled[index], rtol=1e-6, atol=1e-6
        )


def test_keras_the_final_model_reloads_as_it_was_evaluated(tf_kit, tmp_path):
    model, swa, last = trained(tf_kit)
    path, held_out = str(tmp_path / "model.h5"), data(7, 20)
    model.save(path)
    found = model.evaluate(*held_out, verbose=0)
    loaded = tf_kit.keras.models.load_model(path)
    assert equal(loaded.get_weights(), model.get_weights())
    np.testing.assert_allclose(loaded.evaluate(*held_out, verbose=0), found, rtol=1e-6)
    again = recorder(tf_kit)
    run(loaded, [again], epochs=1)  # it trains on, at its rate
    np.testing.assert_allclose(again.rates, 0.1, rtol=1e-6)
