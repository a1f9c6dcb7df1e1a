"""SWA in a loop of your own around `train_on_batch`.

usage: python loop_by_hand.py [EPOCHS]    default: 20
"""

import sys

import numpy as np
import tensorflow as tf

from swa.tfkeras import SWA

EPOCHS = int((sys.argv + ["20"])[1])
BATCH = 50
layers = tf.keras.layers

draw = np.random.RandomState(0)
y = draw.randint(10, size=3000)
x = draw.normal(draw.normal(size=(10, 20))[y], 1.5).astype(np.float32)
x, y, held_out = x[:2000], y[:2000], (x[2000:], y[2000:])

model = tf.keras.Sequential(
    [
        layers.Dense(64, activation="relu", input_shape=(20,)),
        layers.BatchNormalization(),
        layers.Dense(10, activation="softmax"),
    ]
)
optimizer = tf.keras.optimizers.SGD(0.05, momentum=0.9)
model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

batches = len(x) // BATCH
swa = SWA(start_epoch=EPOCHS * 3 // 4, lr_schedule="constant", swa_lr=0.025)
swa.set_model(model)
swa.set_params({"epochs": EPOCHS, "steps": batches})
try:
    swa.on_train_begin()
    for epoch in range(EPOCHS):  # epochs and batches count from zero here
        swa.on_epoch_begin(epoch)
        order = draw.permutation(len(x)).reshape(batches, BATCH)
        for batch, rows in enumerate(order):
            swa.on_batch_begin(batch, {})
            # In the last epoch, that of batch normalization, this trains nothing. With
            # a GradientTape do so yourself: call the model with training=True, and
            # leave `apply_gradients` out while `swa.is_forward_only` is True.
            model.train_on_batch(x[rows], y[rows])
            swa.on_batch_end(batch, {})
        swa.on_epoch_end(epoch, {})
    swa.on_train_end()  # the model has the average now
    figures = model.evaluate(*held_out, verbose=0)
    print("average: loss %.4f, accuracy %.4f" % tuple(figures))
    model.save("average.h5")
finally:
    swa.restore()  # the trained weights; after an error the rate and all else too
figures = model.evaluate(*held_out, verbose=0)
print("last weights: loss %.4f, accuracy %.4f" % tuple(figures))
