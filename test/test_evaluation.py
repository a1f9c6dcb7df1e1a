# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Held-out figures: every row counts once, and every batch has one shape."""

import numpy as np
import pytest

from swa.training.dataset import Data
from swa.training.evaluation import held_out_figures
from swa.training.ranks import Ranks
from swa.training.world import World

CLASSES = 3


class Network:
    """Gives each row the probabilities that stand in it."""

    def __init__(self):
        self.shapes = []

    def predict_on_batch(self, x):
        self.shapes.append(x.shape)
        return x


class OneOfSeveral(Ranks):
    """A rank that keeps its share of the sums."""

    def sum(self, arrays):
        (self.terms,) = arrays
        return [np.ones(3)]


def held_out(rows):
    generator = np.random.RandomState(0)
    x = generator.dirichlet(np.ones(CLASSES), size=rows).astype(np.float32)
    y = generator.randint(CLASSES, size=rows)
    return Data(x, y, x, y, num_classes=CLASSES, source="a test")


def expected(data):
    """(loss, accuracy) of all rows, in numpy's plainest form."""
    of_class = data.x_test[np.arange(len(data.y_test)), data.y_test]
    return -np.log(of_class).mean(), (data.x_test.argmax(axis=1) == data.y_test).mean()


@pytest.mark.parametrize("rows, batch_size", [(1, 4), (7, 4), (8, 4), (3, 100), (9, 1)])
def test_every_row_counts_once(rows, batch_size):
    data, model = held_out(rows), Network()
    figures = held_out_figures(model, data, batch_size, Ranks())
    loss, accuracy = expected(data)
    # the sums of float32 logarithms are made in another order
    assert figures["loss"] == pytest.approx(loss, rel=1e-6)
    assert figures["accuracy"] == pytest.approx(accuracy, rel=1e-6)


def test_all_batches_have_one_shape():
    model = Network()
    held_out_figures(model, held_out(11), 4, Ranks())
    assert model.shapes == [(4, CLASSES)] * 3


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 11])
def test_the_ranks_share_the_rows_and_run_the_same_batches(rows):
    data, shapes, terms = held_out(rows), [], []
    for rank in range(3):
        model, ranks = Network(), OneOfSeveral(World("", rank, 3))
        held_out_figures(model, data, 6, ranks)
        shapes.append(model.shapes)
        terms.append(ranks.terms)
    assert shapes[0] == shapes[1] == shapes[2]
    losses, hits, counted = np.sum(terms, axis=0)
    assert counted == rows
    loss, accuracy = expected(data)
    assert losses / rows == pytest.approx(loss, rel=1e-6)
    assert hits / rows == pytest.approx(accuracy, rel=1e-6)


def test_a_probability_of_zero_gives_a_finite_loss():
    data = Data(None, None, np.float32([[1, 0]]), np.array([1]), 2, "a test")
    figures = held_out_figures(Network(), data, 4, Ranks())
    assert figures["loss"] == pytest.approx(-np.log(np.finfo(np.float32).tiny))
