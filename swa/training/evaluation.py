# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The figures of a model on the held-out rows, all of which count on every device."""

import numpy as np


def held_out_figures(model, data, batch_size, ranks):
    """The held-out loss and accuracy of a model, those of all ranks.

        loss = mean over the rows of -log(probability of the row's class)

    Each rank measures its share of the rows in whole batches, because a device
    compiles a graph for each shape. Copies of rows, which do not count, fill the last
    batch, and the batches of a rank that has no rows.

    Args:
      model: gives a probability for each class.
      data: dataset.Data.
      batch_size: int, of all ranks together.
      ranks: Ranks.

    Returns:
      {"loss": float, "accuracy": float}.
    """
    count = len(data.x_test)
    share = -(-count // ranks.size)  # rows of the rank that has most
    batch_size = min(batch_size // ranks.size, share)
    padded = -(-share // batch_size) * batch_size
    # of the held-out rows; from `count` on they are copies
    rows = ranks.rank + ranks.size * np.arange(padded)  # (padded,)
    totals = np.zeros(3)  # of losses, hits and rows
    for batch in rows.reshape(-1, batch_size):  # (batch_size,)
        y = data.y_test[batch % count]  # (batch_size,)
        probabilities = model.predict_on_batch(data.x_test[batch % count])
        of_class = probabilities[np.arange(batch_size), y]  # (batch_size,)
        losses = -np.log(np.maximum(of_class, np.finfo(np.float32).tiny))
        hits = probabilities.argmax(axis=1) == y
        is_row = batch < count
        totals += losses[is_row].sum(), hits[is_row].sum(), is_row.sum()
    (totals,) = ranks.sum([totals])
    return {"loss": totals[0] / totals[2], "accuracy": totals[1] / totals[2]}
