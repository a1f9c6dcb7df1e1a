# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""One run: session, data, model, `fit` with SWA, evaluation, files."""

import contextlib
import json
import os
import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from swa.tfkeras import SWA
from swa.training import (
    checkpoint,
    output,
    ranks,
    report,
    resume,
    session,
    tensorboard,
)
from swa.training import data as rows
from swa.training import model as network
from swa.training.config import Config


def run(config, choice, data, is_terminal=False, began=None, stop=None, joined=None):
    """Trains, evaluates, and writes `report.json` and `ckpt/`.

    Args:
      config: a checked Config.
      choice: session.Choice.
      data: data.Data.
      is_terminal: bool, whether Keras's progress bar may be drawn.
      began: float, `time.time()` when the program began; None: now.
      stop: stopping.Stop that signals set, or None.
      joined: ranks.Ranks that train together, or None: one process. Rank 0 alone
        writes files.

    Returns:
      dict, what `report.json` holds; `status` is "completed", or "diverged" where
      the loss became NaN or Inf: then nothing is evaluated, and the checkpoints
      are those from before.

    Raises:
      InputError: `resume` with settings that change the result, or with checkpoints
        that cannot be read.
      OutputError: a file cannot be written.
      ranks.RankError: another rank has ended, or differs from this one.
      stopping.Stopped: `stop` was set; a checkpoint has been written.
    """
    joined = joined or ranks.Ranks()
    began = time.time() if began is None else began
    for line in (choice.reason, _data_line(data)) + tuple(choice.notes):
        _say(line)
    folder = checkpoint.Folder(config.output_dir, config.max_to_keep)
    made_of = _MadeOf(choice.device, data.sha256, data.source == "synthetic")
    found = folder.find(_say) if config.resume else None
    if found:
        config = _continued(config, made_of, found)
        earlier = _completed(config, made_of)
        if earlier:
            _say(f"this run is complete: {_report_path(config)}")
            return earlier
        began -= found.run["e2e_seconds"]
        _note_ranks(found.run.get("ranks", 1), joined.size)
    with contextlib.closing(folder), session.open_session(config, choice):
        # with --resume the other ranks may not have read yet what this would remove
        has_readers = config.resume and joined.size > 1
        if joined.rank == 0 and not has_readers:
            _make_room(config, folder, found)  # after what may refuse a directory
        np.random.seed(config.seed)
        tf.compat.v1.set_random_seed(config.seed)
        model = network.build(
            config, data.x.shape[1], data.num_classes, joined.wrap_optimizer
        )
        # operations made before the model's would have changed its initial weights
        first_epoch = found.snapshot.epoch if found else 0
        ranks.check_same(joined, "epochs found by --resume", first_epoch)
        if joined.rank == 0 and has_readers:
            _make_room(config, folder, found)
        swa = SWA(
            config.start_epoch,
            config.lr_schedule,
            config.swa_lr,
            config.swa_lr2,
            config.swa_freq,
            verbose=min(config.verbose, 1),
            scope=lambda: session.keep_dtype_scope(choice),
            ranks=joined if joined.size > 1 else None,
        )
        log = EpochLog(config.train_epochs, is_terminal, swa, joined)
        began_training = time.time()
        if found:
            swa.load_state(found.snapshot.swa)
            log.history = {k: list(v) for k, v in found.snapshot.history.items()}
            began_training -= found.run["train_seconds"]

        def told_of_run():
            now = time.time()
            return {
                "settings": resume.settings(config, *made_of),
                "train_epochs": config.train_epochs,
                "ranks": joined.size,
                "train_seconds": now - began_training,
                "e2e_seconds": now - began,
            }

        keeper = checkpoint.Checkpoints(
            folder,
            swa,
            log,
            told_of_run,
            config.save_interval,
            stop,
            found.snapshot if found else None,
            joined,
        )
        is_writing = config.tensorboard and joined.rank == 0
        events = [tensorboard.Events(config.output_dir, log)] if is_writing else []
        callbacks = joined.callbacks() + [swa, log, keeper] + events
        with stop.deferred() if stop else contextlib.nullcontext():
            with _parting(joined, keeper, stop):
                trained_rows = _fit(
                    config,
                    choice,
                    model,
                    data,
                    callbacks,
                    is_terminal,
                    first_epoch,
                    joined,
                )
        train_seconds = time.time() - began_training
        losses = log.history["losses"]
        has_diverged = not np.isfinite(losses[-1])
        if has_diverged:
            _say(f"epoch {len(losses)}: the loss is {losses[-1]}; stopped.")
            test = None
        else:
            _check_equal(joined, model, swa, keeper)
            test = _evaluate(config, choice, model, swa, data, joined)
            if joined.rank == 0:
                _save_weights(config, folder, data, swa, keeper)
            for writer in events:
                writer.write_test(test)
    told = {
        "status": "diverged" if has_diverged else "completed",
        "config": _told_config(config),
        "device": choice.device,
        "ranks": joined.size,
        "epochs": len(losses),
        "train_seconds": train_seconds,
        "e2e_seconds": time.time() - began,
        "test": test,
        "n_averaged": swa.n_averaged,
        "versions": report.versions(),
        "commit": report.commit(),
        "data": {"source": data.source, "sha256": made_of.data_sha256},
    }
    told.update(_figures(config, log.history, swa, trained_rows))
    if joined.rank == 0:
        report.write_json(_report_path(config), told)
        _say(f"report: {_report_path(config)}")
    return told


class _MadeOf(NamedTuple):
    """What a result is made of besides the flags."""

    device: str
    data_sha256: str
    is_synthetic: bool


class EpochLog(tf.keras.callbacks.Callback):
    """Keeps each epoch's figures, those of all ranks together.

    Off a terminal it prints them on one plain line.
    """

    def __init__(self, epochs, is_terminal, swa, joined):
        super().__init__()
        self._swa = swa  # knows the rate without a session call
        self._joined = joined
        self._epochs = epochs
        self._is_terminal = is_terminal
        names = ("seconds", "losses", "accuracies", "learning_rates")
        self.history = {name: [] for name in names}  # a value for each epoch

    def on_train_begin(self, logs=None):
        self._last = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self._rows = 0

    def on_batch_end(self, batch, logs=None):
        self._rows += logs["size"]

    def on_epoch_end(self, epoch, logs=None):
        accuracy = logs["acc" if "acc" in logs else "accuracy"]
        loss, accuracy = ranks.mean(self._joined, [logs["loss"], accuracy], self._rows)
        logs["loss"] = loss  # for those after this one: all ranks decide alike
        now = time.perf_counter()
        told = {
            "seconds": now - self._last,
            "losses": loss,
            "accuracies": accuracy,
            "learning_rates": self._swa.lr,
        }
        self._last = now
        for name, value in told.items():
            self.history[name].append(value)
        if not np.isfinite(told["losses"]):
            self.model.stop_training = True
        if not self._is_terminal:
            _say(
                f"Epoch {epoch + 1}/{self._epochs} - loss: {told['losses']:.4f} - "
                f"accuracy: {told['accuracies']:.4f} - "
                f"lr: {told['learning_rates']:.6g} - "
                f"samples/s: {self._joined.size * self._rows / told['seconds']:.0f}"
            )


@contextlib.contextmanager
def _parting(joined, keeper, stop):
    """Within it a step that failed since another rank has ended ends this one too.

    What was trained is saved; where all were told to stop, this one stops.
    """
    try:
        yield
    except Exception as error:
        if not joined.is_parting(error):
            raise
        keeper.save_latest()
        if stop is not None:
            stop.check()
        raise ranks.RankError(
            "another rank has ended, so this one had to. To go on, give the same "
            "command with --resume."
        ) from error


def _fit(config, choice, model, data, callbacks, is_terminal, first_epoch, joined):
    """Trains from `first_epoch` on, from zero; returns the rows of an epoch."""
    drop_last = choice.device == "npu"
    steps = rows.batches_per_epoch(len(data.x), config.batch_size, drop_last)
    trained = min(steps * config.batch_size, len(data.x))
    if trained < len(data.x):
        _say(
            f"{len(data.x) - trained} rows of each epoch are dropped: a batch has one "
            f"static shape on an NPU."
        )
    ranks.check_same(joined, "steps_per_epoch", steps)
    model.fit(
        rows.batches(
            data.x,
            data.y,
            config.batch_size,
            config.seed,
            first_epoch,
            drop_last,
            joined.rank,
            joined.size,
        ),
        steps_per_epoch=steps,
        epochs=config.train_epochs,
        initial_epoch=first_epoch,
        verbose=1 if is_terminal else 0,
        callbacks=callbacks,
        workers=0,  # the rows of a batch are a view: a thread would only cost
    )
    return trained


def _check_equal(joined, model, swa, keeper):
    """Refuses to end with results that are not the same, bit for bit, on all ranks."""
    if joined.size == 1:
        return
    names = [weight.op.name for weight in model.weights]
    sets = {"": keeper.weights()}
    with swa.trained_weights():
        sets["trained "] = keeper.weights()
    if swa.n_averaged:
        sets["averaged "] = swa.averaged_weights
    ranks.check_equal(
        joined,
        {
            kind + name: array
            for kind, arrays in sets.items()
            for name, array in zip(names, arrays)
        },
    )


def _evaluate(config, choice, model, swa, data, joined):
    """Held-out loss and accuracy of the trained and of the averaged weights.

    Each rank measures its part of the rows; the figures are those of all.
    """
    x_test = data.x_test[joined.rank :: joined.size]
    y_test = data.y_test[joined.rank :: joined.size]
    count = len(x_test)
    batch_size = max(1, min(config.batch_size // joined.size, count))
    if choice.device == "npu":
        count -= count % batch_size

    def measured(name):
        values = [0.0, 0.0]  # of a rank that got no row
        if count:
            values = model.evaluate(x_test[:count], y_test[:count], batch_size, 0)
        loss, accuracy = ranks.mean(joined, values, count)
        _say(f"{name} weights: test loss {loss:.4f}, test accuracy {accuracy:.4f}")
        return {"loss": loss, "accuracy": accuracy}

    with swa.trained_weights():
        trained = measured("SGD")
    return {"sgd": trained, "swa": measured("SWA")}


def _save_weights(config, folder, data, swa, keeper):
    """Writes the trained and the averaged weights, by way of a model on the host."""
    with swa.trained_weights():
        trained = keeper.weights()
    sets = {"sgd": trained, "swa": keeper.weights()}
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph):
        model = network.build(config, data.x.shape[1], data.num_classes)
        folder.save_weights(model, sets)


def _make_room(config, folder, found):
    """An earlier run's results would pass for this one's if it crashed."""
    if not found:
        if config.resume:
            _say(f"no checkpoint in {folder.path}: starting anew")
        folder.clear()
        output.remove(config.output_dir, tensorboard.FOLDER)
    else:
        _say(f"resuming after epoch {found.snapshot.epoch}: {found.path}")
        folder.clean()
    output.remove(config.output_dir, "report.json", "*" + output.TEMPORARY)


def _note_ranks(saved, now):
    """Bits are the same only with as many ranks: each has its own batch norm."""
    if saved != now:
        _say(f"the checkpoint is of {saved} ranks, and now there are {now}")


def _continued(config, made_of, found):
    """The configuration with which the run goes on from a checkpoint."""
    saved = found.run
    config = resume.continued(
        config,
        found.snapshot.epoch,
        saved["train_epochs"],
        saved["settings"]["start_epoch"],
    )
    resume.check(resume.settings(config, *made_of), saved["settings"])
    return config


def _completed(config, made_of):
    """The report of a run that was completed with these settings, or None."""
    try:
        with open(_report_path(config)) as file:
            told = json.load(file)
        then = Config(**told["config"])
        settings_then = resume.settings(
            then, told["device"], told["data"]["sha256"], made_of.is_synthetic
        )
        is_whole = told["status"] == "completed" and told["epochs"] == then.train_epochs
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, or not one of these
    is_equal = settings_then == resume.settings(config, *made_of)
    if is_whole and is_equal and then.train_epochs == config.train_epochs:
        return told
    return None


def _figures(config, history, swa, trained_rows):
    """What the report tells of the epochs."""
    sampled = swa.plan(config.train_epochs, 1, config.learning_rate, True)
    samples_per_second, compile_seconds = report.rates(
        history["seconds"],
        trained_rows,
        sampled.sampled_epochs[0] if sampled.sampled_epochs else None,
        swa.batch_norm_epoch,
    )
    return {
        "samples_per_second": samples_per_second,
        "compile_seconds": compile_seconds,
        "epoch_losses": history["losses"],
        "epoch_accuracies": history["accuracies"],
        "epoch_learning_rates": history["learning_rates"],
        "final_loss": history["losses"][-1],
        "final_accuracy": history["accuracies"][-1],
        "final_learning_rate": history["learning_rates"][-1],
    }


def _told_config(config):
    """The settings for the report: those of the result, however it came about."""
    told = config._asdict()
    del told["resume"]
    return dict(told)


def _report_path(config):
    return os.path.join(config.output_dir, "report.json")


def _data_line(data):
    kind = "synthetic Gaussian blobs" if data.source == "synthetic" else data.source
    return (
        f"data: {kind}, {len(data.x)} training and {len(data.x_test)} held-out rows of "
        f"{data.x.shape[1]} features, {data.num_classes} classes"
    )


def _say(line):
    print(line, flush=True)
