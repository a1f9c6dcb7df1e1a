# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""One run: session, data, model, `fit` with SWA, evaluation, files."""

import contextlib
import os
import time

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
from swa.training.epoch_log import EpochLog


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
    began = time.time() if began is None else began
    for line in (choice.reason, _data_line(data)) + tuple(choice.notes):
        _say(line)
    made_of = resume.MadeOf(choice.device, data.sha256, data.source == "synthetic")
    folder = checkpoint.Folder(config.output_dir, config.max_to_keep)
    found = folder.find(_say) if config.resume else None
    if found:
        config = resume.continued(config, made_of, found)
        earlier = resume.completed(_report_path(config), config, made_of)
        if earlier:
            _say(f"this run is complete: {_report_path(config)}")
            return earlier
    one = _Run(config, choice, data, made_of, folder, found, joined or ranks.Ranks())
    one.started(began, is_terminal, stop)
    with contextlib.closing(folder), session.open_session(config, choice):
        one.build()
        one.fit()
        test = None if one.has_diverged else one.end()
    return one.report(test)


class _Run:
    """What the parts of a run share, and the parts, in their order."""

    def __init__(self, config, choice, data, made_of, folder, found, joined):
        self.config, self.choice, self.data = config, choice, data
        self.made_of = made_of
        self.folder = folder  # checkpoint.Folder
        self.found = found  # checkpoint.Found to go on from, or None
        self.joined = joined
        self.is_writer = joined.rank == 0

    def started(self, began, is_terminal, stop):
        """Says when and where the program began."""
        self.began, self.is_terminal, self.stop = began, is_terminal, stop
        if self.found:
            self.began -= self.found.run["e2e_seconds"]
            _note_ranks(self.found.run.get("ranks", 1), self.joined.size)

    def build(self):
        """Makes the model and the callbacks; an earlier run's files go."""
        config, joined = self.config, self.joined
        # with --resume the other ranks may not have read yet what this would remove
        has_readers = config.resume and joined.size > 1
        if self.is_writer and not has_readers:
            self._make_room()  # after what may refuse a directory
        np.random.seed(config.seed)
        tf.compat.v1.set_random_seed(config.seed)
        self.model = network.build(
            config, self.data.x.shape[1], self.data.num_classes, joined.wrap_optimizer
        )
        # operations made before the model's would have changed its initial weights
        self.first_epoch = self.found.snapshot.epoch if self.found else 0
        ranks.check_same(joined, "epochs found by --resume", self.first_epoch)
        if self.is_writer and has_readers:
            self._make_room()
        self.swa = SWA(
            config.start_epoch,
            config.lr_schedule,
            config.swa_lr,
            config.swa_lr2,
            config.swa_freq,
            verbose=min(config.verbose, 1),
            ranks=joined if joined.size > 1 else None,
        )
        self.log = EpochLog(config.train_epochs, self.is_terminal, self.swa, joined)
        self.began_training = time.time()
        if self.found:
            self.swa.load_state(self.found.snapshot.swa)
            history = self.found.snapshot.history
            self.log.history = {k: list(v) for k, v in history.items()}
            self.began_training -= self.found.run["train_seconds"]
        self.keeper = checkpoint.Checkpoints(
            self.folder,
            self.swa,
            self.log,
            self._told_to_checkpoints,
            config.save_interval,
            self.stop,
            self.found.snapshot if self.found else None,
            joined,
        )
        self.events = []
        if config.tensorboard and self.is_writer:
            self.events = [tensorboard.Events(config.output_dir, self.log)]

    def fit(self):
        """Trains to the end, or until `stop` says so."""
        with self.stop.deferred() if self.stop else contextlib.nullcontext():
            with self._parting():
                self._fit()
        self.train_seconds = time.time() - self.began_training
        if self.has_diverged:
            losses = self.log.history["losses"]
            _say(f"epoch {len(losses)}: the loss is {losses[-1]}; stopped.")

    @property
    def has_diverged(self):
        return not np.isfinite(self.log.history["losses"][-1])

    def end(self):
        """Evaluates both sets of weights and writes them; returns the figures."""
        self._check_equal()
        test = self._evaluate()
        if self.is_writer:
            self._save_weights()
        for writer in self.events:
            writer.write_test(test)
        return test

    def report(self, test):
        """Writes `report.json`; returns what it holds."""
        told = {
            "status": "diverged" if self.has_diverged else "completed",
            "config": _told_config(self.config),
            "device": self.choice.device,
            "ranks": self.joined.size,
            "epochs": len(self.log.history["losses"]),
            "train_seconds": self.train_seconds,
            "e2e_seconds": time.time() - self.began,
            "test": test,
            "n_averaged": self.swa.n_averaged,
            "versions": report.versions(),
            "commit": report.commit(),
            "data": {"source": self.data.source, "sha256": self.made_of.data_sha256},
        }
        told.update(self._figures())
        if self.is_writer:
            report.write_json(_report_path(self.config), told)
            _say(f"report: {_report_path(self.config)}")
        return told

    def _make_room(self):
        """An earlier run's results would pass for this one's if it crashed."""
        config, folder = self.config, self.folder
        if not self.found:
            if config.resume:
                _say(f"no checkpoint in {folder.path}: starting anew")
            folder.clear()
            output.remove(config.output_dir, tensorboard.FOLDER)
        else:
            _say(f"resuming after epoch {self.found.snapshot.epoch}: {self.found.path}")
            folder.clean()
        output.remove(config.output_dir, "report.json", "*" + output.TEMPORARY)

    def _told_to_checkpoints(self):
        now = time.time()
        return {
            "settings": resume.settings(self.config, self.made_of),
            "train_epochs": self.config.train_epochs,
            "ranks": self.joined.size,
            "train_seconds": now - self.began_training,
            "e2e_seconds": now - self.began,
        }

    @contextlib.contextmanager
    def _parting(self):
        """Within it a step that failed since another rank has ended ends this one too.

        What was trained is saved; where all were told to stop, this one stops.
        """
        try:
            yield
        except Exception as error:
            if not self.joined.is_parting(error):
                raise
            self.keeper.save_latest()
            if self.stop is not None:
                self.stop.check()
            raise ranks.RankError(
                "another rank has ended, so this one had to. To go on, give the same "
                "command with --resume."
            ) from error

    def _fit(self):
        config, data, joined = self.config, self.data, self.joined
        drop_last = self.choice.device == "npu"
        steps = rows.batches_per_epoch(len(data.x), config.batch_size, drop_last)
        self.trained_rows = min(steps * config.batch_size, len(data.x))  # of an epoch
        if self.trained_rows < len(data.x):
            _say(
                f"{len(data.x) - self.trained_rows} rows of each epoch are dropped: a "
                f"batch has one static shape on an NPU."
            )
        ranks.check_same(joined, "steps_per_epoch", steps)
        own = [self.swa, self.log, self.keeper] + self.events
        self.model.fit(
            rows.batches(
                data.x,
                data.y,
                config.batch_size,
                config.seed,
                self.first_epoch,
                drop_last,
                joined.rank,
                joined.size,
            ),
            steps_per_epoch=steps,
            epochs=config.train_epochs,
            initial_epoch=self.first_epoch,
            verbose=1 if self.is_terminal else 0,
            callbacks=joined.callbacks() + own,
            workers=0,  # the rows of a batch are a view: a thread would only cost
        )

    def _check_equal(self):
        """Refuses to end with results that differ, in any bit, between ranks."""
        if self.joined.size == 1:
            return
        names = [weight.op.name for weight in self.model.weights]
        sets = {"": self.keeper.weights()}
        with self.swa.trained_weights():
            sets["trained "] = self.keeper.weights()
        if self.swa.n_averaged:
            sets["averaged "] = self.swa.averaged_weights
        ranks.check_equal(
            self.joined,
            {
                kind + name: array
                for kind, arrays in sets.items()
                for name, array in zip(names, arrays)
            },
        )

    def _evaluate(self):
        """Held-out loss and accuracy of the trained and of the averaged weights.

        Each rank measures its part of the rows; the figures are those of all.
        """
        joined = self.joined
        x_test = self.data.x_test[joined.rank :: joined.size]
        y_test = self.data.y_test[joined.rank :: joined.size]
        count = len(x_test)
        batch_size = max(1, min(self.config.batch_size // joined.size, count))
        if self.choice.device == "npu":
            count -= count % batch_size

        def measured(name):
            values = [0.0, 0.0]  # of a rank that got no row
            if count:
                values = self.model.evaluate(
                    x_test[:count], y_test[:count], batch_size, verbose=0
                )
            loss, accuracy = ranks.mean(joined, values, count)
            _say(f"{name} weights: test loss {loss:.4f}, test accuracy {accuracy:.4f}")
            return {"loss": loss, "accuracy": accuracy}

        with self.swa.trained_weights():
            trained = measured("SGD")
        return {"sgd": trained, "swa": measured("SWA")}

    def _save_weights(self):
        """Writes both sets of weights, by way of a model on the host."""
        with self.swa.trained_weights():
            trained = self.keeper.weights()
        sets = {"sgd": trained, "swa": self.keeper.weights()}
        with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph):
            model = network.build(
                self.config, self.data.x.shape[1], self.data.num_classes
            )
            self.folder.save_weights(model, sets)

    def _figures(self):
        """What the report tells of the epochs."""
        history, config = self.log.history, self.config
        sampled = self.swa.plan(config.train_epochs, 1, config.learning_rate, True)
        samples_per_second, compile_seconds = report.rates(
            history["seconds"],
            self.trained_rows,
            sampled.sampled_epochs[0] if sampled.sampled_epochs else None,
            self.swa.batch_norm_epoch,
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


def _note_ranks(saved, now):
    """Bits are the same only with as many ranks: each has its own batch norm."""
    if saved != now:
        _say(f"the checkpoint is of {saved} ranks, and now there are {now}")


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
