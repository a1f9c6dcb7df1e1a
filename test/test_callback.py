# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The callback against numpy: in graph mode for both Kerases, and in eager mode.

`test_eager.py` runs this file once more with SWA_TEST_MODE=eager.
"""

import numpy as np
import pytest

pytestmark = pytest.mark.both_modes

ROWS, FEATURES, CLASSES, BATCH = 50, 6, 3, 16
BATCHES = 4  # ceil(50 / 16): the last batch is short


def data(seed=1, rows=ROWS):
    generator = np.random.RandomState(seed)
    x = generator.randn(rows, FEATURES).astype("float32")
    return x, generator.randint(0, CLASSES, rows)


def build(kit, batch_norm=True, optimizer=None, learning_rate=0.1, **compile_options):
    layers = kit.keras.layers
    model = kit.keras.Sequential()
    model.add(layers.Dense(8, activation="relu", input_shape=(FEATURES,)))
    if batch_norm:
        model.add(layers.BatchNormalization())
    model.add(layers.Dense(CLASSES, activation="softmax"))
    model.compile(
        optimizer or kit.keras.optimizers.SGD(learning_rate, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        **compile_options,
    )
    return model


def recorder(kit):
    """A callback that writes down what others can see."""

    class Recorder(kit.keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.rates, self.end_rates, self.weights, self.slots = [], [], [], []

        def on_batch_begin(self, batch, logs=None):
            self.rates.append(rate_of(kit, self.model))

        def on_epoch_end(self, epoch, logs=None):
            self.end_rates.append(rate_of(kit, self.model))
            self.weights.append(self.model.get_weights())
            self.slots.append(
                kit.keras.backend.batch_get_value(self.model.optimizer.weights)
            )

    return Recorder()


def rate_of(kit, model):
    return float(kit.keras.backend.get_value(model.optimizer.lr))


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second))


def mean_of(sets):
    return [np.mean([np.float64(s[i]) for s in sets], 0) for i in range(len(sets[0]))]


def assert_mean(weights, sets, skip=()):
    for index, (weight, mean) in enumerate(zip(weights, mean_of(sets))):
        if index not in skip:
            # atol: a few float32 roundings at magnitude 1
            np.testing.assert_allclose(weight, mean, rtol=1e-6, atol=1e-6)


def assert_statistics(weights, x):
    """Moving mean and variance are those of the hidden layer over all rows."""
    hidden = np.maximum(np.float64(x) @ weights[0] + weights[1], 0)
    # the bound for float32 models
    np.testing.assert_allclose(weights[4], hidden.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(weights[5], hidden.var(0), rtol=1e-5, atol=1e-5)


def fit(model, swa, *others, **options):
    x, y = options.pop("data", None) or data()
    options = dict(dict(batch_size=BATCH, epochs=7, verbose=0), **options)
    return model.fit(x, y, callbacks=[swa] + list(others), **options)


STATISTICS = (4, 5)  # where moving mean and variance are in get_weights()


def test_batch_norm_gets_the_statistics_of_all_rows(kit):
    model, swa, seen = build(kit), kit.SWA(3), recorder(kit)
    fit(model, swa, seen)
    assert_mean(model.get_weights(), seen.weights[2:6], skip=STATISTICS)
    assert_statistics(model.get_weights(), data()[0])
    assert swa.batch_norm_epoch == 7


def test_the_batch_norm_epoch_changes_no_slot_and_no_iterations(kit):
    model, swa, seen = build(kit), kit.SWA(3), recorder(kit)
    fit(model, swa, seen)
    assert equal(seen.slots[-1], seen.slots[-2])
    assert not equal(seen.slots[-2], seen.slots[-3])


def test_manual_leaves_the_rate_to_the_user_but_for_the_pass(kit):
    model, seen = build(kit), recorder(kit)
    mine = kit.keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 * (epoch + 1))
    swa = kit.SWA(3)
    history = model.fit(
        *data(), batch_size=50, epochs=5, verbose=0, callbacks=[swa, mine, seen]
    )
    np.testing.assert_allclose(seen.rates, [0.01, 0.02, 0.03, 0.04, 0.0], rtol=1e-6)
    assert rate_of(kit, model) == pytest.approx(0.05)  # as the user's schedule last set
    assert len(history.history["lr"]) == 5  # LearningRateScheduler's own, by epoch


@pytest.mark.parametrize("first", [True, False], ids=["swa first", "swa last"])
def test_swas_rate_wins_over_other_schedules_in_either_order(kit, first):
    model, swa = build(kit, False), kit.SWA(3, "constant", 0.01)
    other = kit.keras.callbacks.LearningRateScheduler(lambda epoch: 0.5)
    seen = recorder(kit)
    model.fit(
        *data(),
        batch_size=50,
        epochs=5,
        verbose=0,
        callbacks=([swa, other] if first else [other, swa]) + [seen],
    )
    np.testing.assert_allclose(seen.rates, swa.plan(5, 1).rates.ravel(), rtol=5e-7)


def test_validation_of_the_last_epoch_is_that_of_the_final_model(kit):
    model, swa = build(kit), kit.SWA(3)
    held_out = data(7, 20)
    history = fit(model, swa, validation_data=held_out).history
    loss, accuracy = model.evaluate(*held_out, batch_size=20, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-6)
    name = [key for key in history if key.startswith("val_acc")][0]
    assert history[name][-1] == pytest.approx(accuracy, rel=1e-6)


@pytest.mark.parametrize("first", [True, False], ids=["swa first", "swa last"])
def test_a_checkpoint_of_the_last_epoch_holds_the_final_model(kit, first, tmp_path):
    model, swa, path = build(kit), kit.SWA(3), str(tmp_path / "model.h5")
    save = kit.keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    model.fit(
        *data(),
        batch_size=BATCH,
        epochs=5,
        verbose=0,
        callbacks=[swa, save] if first else [save, swa],
    )
    final = model.get_weights()
    model.set_weights([np.zeros_like(weight) for weight in final])
    model.load_weights(path)
    assert equal(model.get_weights(), final)


def test_trained_weights_come_back_with_their_statistics(kit):
    model, swa, seen = build(kit), kit.SWA(3), recorder(kit)
    fit(model, swa, seen)
    final = model.get_weights()
    with swa.trained_weights():
        assert equal(model.get_weights(), seen.weights[5])
    assert equal(model.get_weights(), final)
    swa.restore()
    assert equal(model.get_weights(), seen.weights[5])


def test_average_applied_in_mid_training_is_undone_exactly(kit):
    model, swa = build(kit), kit.SWA(3)
    x, checked = data()[0], []

    class Peek(kit.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 4:
                before = self.model.get_weights()
                with swa.average_applied(x):
                    assert_statistics(self.model.get_weights(), x)
                    checked.append(self.model.get_weights()[0])
                assert equal(self.model.get_weights(), before)

    seen = recorder(kit)
    fit(model, swa, seen, Peek())
    np.testing.assert_allclose(
        checked[0], mean_of(seen.weights[2:5])[0], rtol=1e-6, atol=1e-6
    )
    assert_mean(model.get_weights(), seen.weights[2:6], skip=STATISTICS)


def stopper(kit, epoch):
    class Stop(kit.keras.callbacks.Callback):
        def on_epoch_end(self, now, logs=None):
            if now == epoch:
                self.model.stop_training = True

    return Stop()


@pytest.mark.parametrize("first", [True, False], ids=["swa first", "swa last"])
def test_restore_best_weights_does_not_undo_the_average(kit, first):
    model, swa, seen = build(kit), kit.SWA(3), recorder(kit)
    stop = kit.keras.callbacks.EarlyStopping(
        "loss", mode="max", patience=4, restore_best_weights=True
    )  # best is the first epoch; the last one restores it
    model.fit(
        *data(),
        batch_size=BATCH,
        epochs=5,
        verbose=0,
        callbacks=[seen, swa, stop] if first else [seen, stop, swa],
    )
    assert stop.stopped_epoch == 4
    assert_mean(model.get_weights(), seen.weights[2:4], skip=STATISTICS)
    assert_statistics(model.get_weights(), data()[0])


def test_state_continues_in_another_callback(kit):
    whole, seen = build(kit, False), recorder(kit)
    swa = kit.SWA(3, "constant", 0.01)
    fit(whole, swa, seen, shuffle=False)
    half = build(kit, False)
    half.set_weights(seen.weights[4])
    first = kit.SWA(3, "constant", 0.01)
    other = recorder(kit)

    class Save(kit.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 4:
                self.state = first.state

    save = Save()
    fit(half, first, save, other, shuffle=False)
    second = kit.SWA(3, "constant", 0.01)
    second.load_state(save.state)
    half.optimizer.set_weights(other.slots[4])
    half.set_weights(other.weights[4])
    again = recorder(kit)
    fit(half, second, again, shuffle=False, initial_epoch=5)
    assert second.n_averaged == 5
    assert_mean(half.get_weights(), other.weights[2:5] + again.weights)
    np.testing.assert_allclose(again.rates, 0.01, rtol=1e-6)


def test_a_state_of_other_settings_is_refused_by_name(kit):
    state = kit.SWA(3).state
    with pytest.raises(ValueError, match="state must have start_epoch 4, got 3"):
        kit.SWA(4).load_state(state)


def test_a_state_of_another_model_is_refused_by_name(kit):
    swa, model = kit.SWA(3), build(kit)
    fit(model, swa)
    state = swa.state
    state["average"][0] = np.zeros((2, 2), "float32")
    with pytest.raises(ValueError, match=r"shape \(6, 8\) for weight '.*kernel"):
        swa.load_state(state)


def test_the_stages_are_announced(kit, capsys):
    model = build(kit)
    fit(model, kit.SWA(3, verbose=1))
    lines = capsys.readouterr().out.split("\n")
    assert [line for line in lines if line.startswith("Epoch 0")] == [
        "Epoch 00003: starting stochastic weight averaging",
        "Epoch 00007: final model weights set to stochastic weight average",
        "Epoch 00007: reinitializing batch normalization layers",
        "Epoch 00007: running forward pass to adjust batch normalization",
    ]


def test_start_epoch_must_be_below_epochs(kit):
    with pytest.raises(ValueError, match="start_epoch must be below epochs.*7.*7"):
        fit(build(kit), kit.SWA(7))


def test_swa_lr_above_the_compiled_rate_is_refused(kit):
    with pytest.raises(ValueError, match="swa_lr must not be above.*0.1, got 0.5"):
        fit(build(kit), kit.SWA(3, "constant", 0.5))


def test_a_model_of_the_other_keras_is_refused(tf_kit):
    pytest.importorskip("keras")
    from swa.keras import SWA as KerasSWA

    swa = KerasSWA(3)
    swa.set_model(build(tf_kit))
    swa.set_params({"epochs": 7})
    with pytest.raises(ValueError, match="model must be a keras model"):
        swa.on_train_begin()


def test_another_tensorflow_is_refused(tf_kit, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf, "__version__", "2.4.1")
    with pytest.raises(RuntimeError, match="TensorFlow 1.15, found 2.4.1"):
        tf_kit.SWA(3)


def test_renorm_is_refused_in_one_line(tf_kit):
    layers = tf_kit.keras.layers
    model = tf_kit.keras.Sequential(
        [
            layers.Dense(4, input_shape=(FEATURES,)),
            layers.BatchNormalization(renorm=True),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="batch-norm layer '.*' must not use renorm"):
        fit(model, tf_kit.SWA(3))


def test_the_eager_graph_function_is_refused(tf_kit):
    if not tf_kit.is_eager:
        pytest.skip("only eager mode has it: test_eager.py runs this")
    model = build(tf_kit, experimental_run_tf_function=False)
    with pytest.raises(ValueError, match="experimental_run_tf_function"):
        fit(model, tf_kit.SWA(3))


def test_get_config_builds_an_equal_callback(kit):
    swa = kit.SWA(3, "cyclic", 0.01, 0.05, 2, 32, 1, "cycle_end")
    assert kit.SWA(**swa.get_config()).get_config() == swa.get_config()
