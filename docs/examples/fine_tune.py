"""A finished model, saved as HDF5, gets better by a few more epochs with SWA.

usage: python fine_tune.py [EPOCHS]    default: 12, of which SWA averages 10
"""

import sys

import numpy as np
import tensorflow as tf

from swa.tfkeras import SWA

EPOCHS = int((sys.argv + ["12"])[1])
RATE = 0.02  # a fifth of the rate that the model was trained with
layers = tf.keras.layers

draw = np.random.RandomState(0)
y = draw.randint(10, size=3000)
x = draw.normal(draw.normal(size=(10, 20))[y], 1.5).astype(np.float32)
x, y, held_out = x[:2000], y[:2000], (x[2000:], y[2000:])


def finished():
    """Trains and saves the model that stands for yours."""
    model = tf.keras.Sequential(
        [
            layers.Dense(64, activation="relu", input_shape=(20,)),
            layers.BatchNormalization(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = tf.keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, 50, 20, verbose=0)
    model.save("finished.h5")


finished()
model = tf.keras.models.load_model("finished.h5")
before = model.evaluate(*held_out, verbose=0)

# compile anew: the saved optimizer has the low rate of the end of its own schedule
optimizer = tf.keras.optimizers.SGD(RATE, momentum=0.9)
model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
# epochs count from one again; the first is not averaged, and the last trains nothing
swa = SWA(start_epoch=2, lr_schedule="constant", swa_lr=RATE)
model.fit(x, y, 50, EPOCHS, verbose=0, callbacks=[swa])
model.save("fine_tuned.h5")

after = model.evaluate(*held_out, verbose=0)
print("before: loss %.4f, accuracy %.4f" % tuple(before))
print("average of %d epochs: loss %.4f, accuracy %.4f" % (swa.n_averaged, *after))
