# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The MLP of `tasks.network` in numpy, and what its loss is around some weights.

Statistics are always those of all training rows, for whatever weights.
"""

import numpy as np

KERNELS = (0, 5, 10)  # in `get_weights()`; gamma and beta follow the first two
NOISE = (0.1, 0.2, 0.3, 0.4, 0.5)  # over the length of a unit's weights
DIRECTIONS = 5


def figures(weights, train, test):
    """(train loss, test accuracy).

    Args:
      weights: as `get_weights()` gives them; the moving statistics are not used.
      train, test: tasks.Rows.
    """
    own, held = (rows.x.reshape(len(rows.x), -1) for rows in (train, test))
    for kernel, gamma, beta in (weights[0:3], weights[5:8]):
        own, held = own.dot(kernel), held.dot(kernel)
        mean, scale = own.mean(axis=0), gamma / np.sqrt(own.var(axis=0) + 1e-3)
        own, held = (np.maximum((a - mean) * scale + beta, 0) for a in (own, held))
    own, held = (a.dot(weights[10]) + weights[11] for a in (own, held))
    own = own - own.max(axis=1, keepdims=True)
    of_right = own[np.arange(len(train.y)), train.y]
    loss = np.mean(np.log(np.exp(own).sum(axis=1)) - of_right)
    return float(loss), float(np.mean(held.argmax(axis=1) == test.y))


def rise(weights, train, test):
    """By how much the train loss rises for each of NOISE, a list.

    loss(w + noise * d) - loss(w), where d is random with, for each unit, the length
    of the unit's own weights (filter normalisation: Li et al., 2018,
    arXiv:1712.09913); the mean over DIRECTIONS.
    """
    generator, risen = np.random.RandomState(0), np.zeros(len(NOISE))
    at_weights = figures(weights, train, test)[0]
    for _ in range(DIRECTIONS):
        direction = {}
        for index in KERNELS:
            drawn = generator.normal(size=weights[index].shape)
            lengths = np.linalg.norm([weights[index], drawn], axis=1)
            direction[index] = drawn * lengths[0] / lengths[1]
        for at, noise in enumerate(NOISE):
            moved = list(weights)
            for index, one in direction.items():
                moved[index] = (weights[index] + noise * one).astype(np.float32)
            risen[at] += figures(moved, train, test)[0] - at_weights
    return (risen / DIRECTIONS).tolist()
