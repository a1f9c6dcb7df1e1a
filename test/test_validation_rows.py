# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""`validation` and `validation_rows`: what is read of them, and when they are refused.

`test_eager.py` runs this file once more with SWA_TEST_MODE=eager.
"""

import numpy as np
import pytest


def data(count, seed=0):
    generator = np.random.RandomState(seed)
    return generator.randn(count, 3).astype("f4"), generator.randint(0, 2, count)


def model_of(kit):
    layers = kit.keras.layers
    model = kit.keras.Sequential(
        [
            layers.BatchNormalization(input_shape=(3,)),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def fit(model, swa, epochs=4):
    return model.fit(*data(32), epochs=epochs, verbose=0, callbacks=[swa])


def unusable():
    import tensorflow as tf

    return {
        "ragged": (
            lambda: tf.compat.v1.ragged.constant_value([[1.0], [2.0, 3.0]]),
            "^validation_rows must be dense rows .* RaggedTensorValue",
        ),
        "too narrow": (lambda: data(32)[0][:, :2], r"to have shape \(3,\) but got"),
        "none": (lambda: data(0)[0], "^validation_rows must hold at least one row"),
    }


@pytest.mark.both_modes
@pytest.mark.parametrize("name", sorted(unusable()))
def test_rows_for_the_statistics_are_refused_before_training(kit, name):
    rows, sentence = unusable()[name]
    model = model_of(kit)
    before = model.get_weights()
    swa = kit.SWA(2, validation=data(16, 1), validation_rows=rows())
    with pytest.raises(ValueError, match=sentence) as error:
        fit(model, swa)
    assert "\n" not in str(error.value)
    for array, expected in zip(model.get_weights(), before):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.both_modes
def test_rows_for_the_statistics_are_read_once_for_each_sample(kit):
    x = data(32)[0]
    reads = []

    class Batches(kit.keras.utils.Sequence):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            reads.append(index)
            return x[8 * index : 8 * index + 8]

    swa = kit.SWA(2, validation=data(16, 1), validation_rows=Batches())
    fit(model_of(kit), swa)
    assert swa.n_averaged == 2
    # the first batch before training, to see whether the model can take it
    assert reads == [0] + 2 * [0, 1, 2, 3]


@pytest.mark.both_modes
def test_rows_are_not_needed_without_batch_norm(kit):
    model = kit.keras.Sequential([kit.keras.layers.Dense(1, input_shape=(3,))])
    model.compile("sgd", "mse")
    x, y = data(32)
    swa = kit.SWA(2, validation=(x, y), validation_rows=None)
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[swa]).history
    # rtol: float32 sums over 32 rows
    expected = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(history["swa_loss"][-1], expected, rtol=1e-5)
