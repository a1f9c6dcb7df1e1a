"""SWA in your own training: early stopping, the best average saved, TensorBoard.

usage: python own_training.py [EPOCHS]    default: 40
"""

import sys

import numpy as np
import tensorflow as tf

from swa.tfkeras import SWA

EPOCHS = int((sys.argv + ["40"])[1])
RATE, START = 0.1, max(2, EPOCHS // 4)
keras, layers = tf.keras, tf.keras.layers

draw = np.random.RandomState(0)
y = draw.randint(10, size=6000)
x = draw.normal(draw.normal(size=(10, 20))[y], 1.5).astype(np.float32)
x, y, held_out = x[:5000], y[:5000], (x[5000:], y[5000:])

model = keras.Sequential(
    [
        layers.Dense(64, "relu", kernel_regularizer="l2", input_shape=(20,)),
        layers.BatchNormalization(),
        layers.Dense(10, activation="softmax"),
    ]
)
optimizer = keras.optimizers.SGD(RATE, momentum=0.9)
model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

swa = SWA(
    start_epoch=START,
    lr_schedule="constant",
    swa_lr=RATE / 2,
    validation=held_out,  # swa_loss and swa_acc in logs and history
    validation_rows=x,  # for the statistics of the average
)


class SaveBestAverage(keras.callbacks.Callback):
    """Saves the average with the lowest loss. Place it after SWA."""

    lowest = np.inf

    def on_epoch_end(self, epoch, logs=None):
        if logs.get("swa_loss", np.inf) < self.lowest:
            self.lowest = logs["swa_loss"]
            # in the batch-norm epoch the average has its statistics already
            with swa.average_applied(None if swa.batch_norm_epoch else x):
                self.model.save("best_average.h5")


early = keras.callbacks.EarlyStopping(patience=START)  # no stop before a sample
board = keras.callbacks.TensorBoard("logs")  # after SWA: it draws epoch_swa_loss
callbacks = [early, swa, SaveBestAverage(), board]  # early before SWA
model.fit(x, y, 50, EPOCHS, 2, callbacks, validation_data=held_out)
figures = keras.models.load_model("best_average.h5").evaluate(*held_out, verbose=0)
print("best average: loss %.4f, accuracy %.4f" % tuple(figures))
