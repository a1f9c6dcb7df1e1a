# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""One run: session, data, model, `fit` with SWA, evaluation, files."""

import contextlib
import os
import shutil
import tempfile
import time

import numpy as np
import tensorflow as tf

from swa.tfkeras import SWA
from swa.training import data as rows
from swa.training import model as network
from swa.training import report, session


def run(config, choice, data, is_terminal=False, began=None):
    """Trains, evaluates, and writes `report.json` and `ckpt/`.

    Args:
      config: a checked Config.
      choice: session.Choice.
      data: data.Data.
      is_terminal: bool, whether Keras's progress bar may be drawn.
      began: float, `time.time()` when the program began; None: now.

    Returns:
      dict, what `report.json` holds; `status` is "completed", or "diverged" where
      the loss became NaN or Inf: then nothing is evaluated or saved.
    """
    began = time.time() if began is None else began
    for line in (choice.reason, _data_line(data)) + tuple(choice.notes):
        _say(line)
    with session.open_session(config, choice):  # it may refuse a directory
        _clear_earlier(config.output_dir)
        np.random.seed(config.seed)
        tf.compat.v1.set_random_seed(config.seed)
        model = network.build(config, data.x.shape[1], data.num_classes)
        swa = SWA(
            config.start_epoch,
            config.lr_schedule,
            config.swa_lr,
            config.swa_lr2,
            config.swa_freq,
            verbose=min(config.verbose, 1),
            scope=lambda: session.keep_dtype_scope(choice),
        )
        log = EpochLog(config.train_epochs, is_terminal, swa)
        began_training = time.time()
        trained_rows = _fit(config, choice, model, data, [swa, log], is_terminal)
        train_seconds = time.time() - began_training
        has_diverged = not np.isfinite(log.losses[-1])
        if has_diverged:
            _say(f"epoch {len(log.losses)}: the loss is {log.losses[-1]}; stopped.")
            test = None
        else:
            test = _evaluate(config, choice, model, swa, data)
            _save(config.output_dir, model, swa)
    sampled = swa.plan(config.train_epochs, 1, config.learning_rate, True)
    samples_per_second, compile_seconds = report.rates(
        log.seconds,
        trained_rows,
        sampled.sampled_epochs[0] if sampled.sampled_epochs else None,
        swa.batch_norm_epoch,
    )
    told = {
        "status": "diverged" if has_diverged else "completed",
        "config": config._asdict(),
        "device": choice.device,
        "ranks": 1,
        "epochs": len(log.seconds),
        "samples_per_second": samples_per_second,
        "compile_seconds": compile_seconds,
        "train_seconds": train_seconds,
        "e2e_seconds": time.time() - began,
        "epoch_losses": log.losses,
        "final_loss": log.losses[-1],
        "final_accuracy": log.accuracies[-1],
        "final_learning_rate": log.learning_rates[-1],
        "test": test,
        "n_averaged": swa.n_averaged,
        "versions": report.versions(),
        "commit": report.commit(),
        "data": {"source": data.source, "sha256": data.sha256},
    }
    report.write_json(os.path.join(config.output_dir, "report.json"), told)
    _say(f"report: {os.path.join(config.output_dir, 'report.json')}")
    return told


class EpochLog(tf.keras.callbacks.Callback):
    """Keeps each epoch's figures; off a terminal, prints them on one plain line."""

    def __init__(self, epochs, is_terminal, swa):
        super().__init__()
        self._swa = swa  # knows the rate without a session call
        self._epochs = epochs
        self._is_terminal = is_terminal
        self.seconds, self.losses, self.accuracies = [], [], []
        self.learning_rates = []

    def on_train_begin(self, logs=None):
        self._last = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self._rows = 0

    def on_batch_end(self, batch, logs=None):
        self._rows += logs["size"]

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now
        self.losses.append(float(logs["loss"]))
        self.accuracies.append(float(logs["acc" if "acc" in logs else "accuracy"]))
        rate = self._swa.lr
        self.learning_rates.append(rate)
        if not np.isfinite(self.losses[-1]):
            self.model.stop_training = True
        if not self._is_terminal:
            _say(
                f"Epoch {epoch + 1}/{self._epochs} - loss: {self.losses[-1]:.4f} - "
                f"accuracy: {self.accuracies[-1]:.4f} - lr: {rate:.6g} - "
                f"samples/s: {self._rows / self.seconds[-1]:.0f}"
            )


def _fit(config, choice, model, data, callbacks, is_terminal):
    """Trains; returns the rows of an epoch."""
    drop_last = choice.device == "npu"
    steps = rows.batches_per_epoch(len(data.x), config.batch_size, drop_last)
    trained = min(steps * config.batch_size, len(data.x))
    if trained < len(data.x):
        _say(
            f"{len(data.x) - trained} rows of each epoch are dropped: a batch has one "
            f"static shape on an NPU."
        )
    model.fit(
        rows.batches(
            data.x, data.y, config.batch_size, config.seed, drop_last=drop_last
        ),
        steps_per_epoch=steps,
        epochs=config.train_epochs,
        verbose=1 if is_terminal else 0,
        callbacks=callbacks,
        workers=0,  # the rows of a batch are a view: a thread would only cost
    )
    return trained


def _evaluate(config, choice, model, swa, data):
    """Held-out loss and accuracy of the trained and of the averaged weights."""
    batch_size = min(config.batch_size, len(data.x_test))
    count = len(data.x_test)
    if choice.device == "npu":
        count -= count % batch_size

    def measured(name):
        loss, accuracy = model.evaluate(
            data.x_test[:count], data.y_test[:count], batch_size, verbose=0
        )
        _say(f"{name} weights: test loss {loss:.4f}, test accuracy {accuracy:.4f}")
        return {"loss": float(loss), "accuracy": float(accuracy)}

    with swa.trained_weights():
        trained = measured("SGD")
    return {"sgd": trained, "swa": measured("SWA")}


def _save(output_dir, model, swa):
    """Writes the weights as TensorFlow checkpoints; `ckpt/` appears whole."""
    saver = tf.compat.v1.train.Saver(model.weights)
    get_session = tf.compat.v1.keras.backend.get_session
    temporary = tempfile.mkdtemp(dir=output_dir, prefix=".ckpt")
    os.chmod(temporary, 0o755)
    try:
        sets = {"sgd": swa.trained_weights, "swa": contextlib.nullcontext}
        for name, weights in sets.items():
            with weights():
                saver.save(
                    get_session(),
                    os.path.join(temporary, name + ".ckpt"),
                    write_meta_graph=False,
                )
        os.rename(temporary, os.path.join(output_dir, "ckpt"))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _clear_earlier(output_dir):
    """An earlier run's results would pass for this one's if it crashed."""
    os.makedirs(output_dir, exist_ok=True)
    shutil.rmtree(os.path.join(output_dir, "ckpt"), ignore_errors=True)
    if os.path.exists(os.path.join(output_dir, "report.json")):
        os.unlink(os.path.join(output_dir, "report.json"))


def _data_line(data):
    kind = "synthetic Gaussian blobs" if data.source == "synthetic" else data.source
    return (
        f"data: {kind}, {len(data.x)} training and {len(data.x_test)} held-out rows of "
        f"{data.x.shape[1]} features, {data.num_classes} classes"
    )


def _say(line):
    print(line, flush=True)
