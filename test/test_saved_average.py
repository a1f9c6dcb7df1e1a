# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What other callbacks save beside SWA: the raw weights, or by a recipe the average."""

import numpy as np
import pytest
from support.callback_kit import EPOCHS, build, data, fit


def assert_equal(weights, others):
    for weight, other in zip(weights, others):
        np.testing.assert_allclose(weight, other, rtol=1e-6, atol=1e-7)


def saver_of_averages(kit, swa, x):
    """The recipe of docs/callback.md, which keeps the weights instead of a file."""

    class SaveAverage(kit.keras.callbacks.Callback):
        saved = ()

        def on_epoch_end(self, epoch, logs=None):
            if swa.n_averaged and not swa.batch_norm_epoch:
                with swa.average_applied(x):
                    self.saved += (self.model.get_weights(),)

    return SaveAverage()


@pytest.mark.parametrize("has_batch_norm", [True, False])
def test_the_last_saved_average_is_the_final_model(kit, has_batch_norm):
    model = build(kit, has_batch_norm)
    swa = kit.SWA(3, "constant", 0.05)
    saver = saver_of_averages(kit, swa, data()[0])
    fit(model, swa, saver)
    assert len(saver.saved) == EPOCHS - 2 - has_batch_norm
    assert_equal(saver.saved[-1], model.get_weights())


def recorder_of_raw_weights(kit):
    class Recorder(kit.keras.callbacks.Callback):
        raw = ()

        def on_epoch_end(self, epoch, logs=None):
            self.raw += (self.model.get_weights(),)

    return Recorder()


def test_modelcheckpoint_saves_the_raw_weights(kit, tmp_path):
    model = build(kit, False)
    x, y = data()
    swa = kit.SWA(3, "constant", 0.05, validation=(x, y))
    raw = recorder_of_raw_weights(kit)
    path = str(tmp_path / "{epoch}.h5")
    checkpoint = kit.keras.callbacks.ModelCheckpoint(
        path, monitor="swa_loss", save_weights_only=True
    )
    fit(model, raw, swa, checkpoint)
    final = [np.array(weight) for weight in model.get_weights()]
    model.load_weights(str(tmp_path / f"{EPOCHS}.h5"))
    assert_equal(model.get_weights(), raw.raw[-1])
    assert np.abs(model.get_weights()[0] - final[0]).max() > 1e-6


def test_modelcheckpoint_has_no_swa_loss_before_the_first_sample(kit, tmp_path):
    x, y = data()
    model = build(kit, False)
    swa = kit.SWA(3, "constant", 0.05, validation=(x, y))
    path = str(tmp_path / "{swa_loss:.3f}.h5")
    with pytest.raises(KeyError, match="swa_loss"):
        fit(model, swa, kit.keras.callbacks.ModelCheckpoint(path))


@pytest.mark.parametrize("is_before", [True, False])
def test_on_train_end_before_swa_the_model_has_its_trained_weights(kit, is_before):
    model = build(kit, False)
    swa = kit.SWA(3, "constant", 0.05)

    class SaveAtTheEnd(kit.keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            self.saved = self.model.get_weights()

    raw, saver = recorder_of_raw_weights(kit), SaveAtTheEnd()
    fit(model, raw, *([saver, swa] if is_before else [swa, saver]))
    assert_equal(saver.saved, raw.raw[-1] if is_before else swa.averaged_weights)
