# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What several ranks make of an epoch's figures."""

from swa.training import rank_callbacks


def test_an_epochs_figures_weigh_each_rank_by_all_its_rows():
    class Ranks:
        def mean(self, values, rows):
            return [value * rows for value in values]

    callback, logs = rank_callbacks.MeanOverRanks(Ranks()), {}
    for epoch in range(2):  # the second begins anew
        callback.on_epoch_begin(epoch)
        for batch, size in enumerate([4, 4, 2]):
            callback.on_batch_end(batch, {"size": size})
        logs = {"loss": 2.0, "acc": 0.5}
        callback.on_epoch_end(epoch, logs)
    assert logs == {"loss": 20.0, "acc": 5.0}
