"""Transfer learning: a trained base is frozen, SWA trains a new head on a new task.

usage: python transfer.py [EPOCHS]    default: 20
"""

import sys

import numpy as np
import tensorflow as tf

from swa.tfkeras import SWA

EPOCHS = int((sys.argv + ["20"])[1])
layers = tf.keras.layers

draw = np.random.RandomState(0)
y = draw.randint(10, size=3000)
x = draw.normal(y[:, None], 1.0, size=(3000, 8)).astype(np.float32)
is_high = (y >= 5).astype(np.int32)  # the new task

base = tf.keras.Sequential(
    [layers.Dense(32, activation="relu", input_shape=(8,)), layers.BatchNormalization()]
)
old = tf.keras.Sequential([base, layers.Dense(10, activation="softmax")])
old.compile("sgd", "sparse_categorical_crossentropy")
old.fit(x[:2000], y[:2000], epochs=10, verbose=0)

base.trainable = False  # its weights and its statistics stay
inputs = tf.keras.Input((8,))
hidden = base(inputs, training=False)  # with the statistics that the base has
hidden = layers.Dense(32, activation="relu")(hidden)
hidden = layers.BatchNormalization()(hidden)
model = tf.keras.Model(inputs, layers.Dense(2, activation="softmax")(hidden))
optimizer = tf.keras.optimizers.SGD(0.1, momentum=0.9)
model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

swa = SWA(start_epoch=EPOCHS * 3 // 4, lr_schedule="constant", swa_lr=0.05)
model.fit(x[:2000], is_high[:2000], 50, EPOCHS, verbose=0, callbacks=[swa])
model.save("transferred.h5")

average = model.evaluate(x[2000:], is_high[2000:], verbose=0)
with swa.trained_weights():
    last = model.evaluate(x[2000:], is_high[2000:], verbose=0)
print("last weights: loss %.4f, accuracy %.4f" % tuple(last))
print("their average: loss %.4f, accuracy %.4f" % tuple(average))
