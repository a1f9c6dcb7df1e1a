"""SWA in a Horovod training of your own: averages need no communication.

usage: horovodrun -np 2 --gloo python horovod_ranks.py [EPOCHS]    default: 20
"""

import sys

import horovod.tensorflow.keras as hvd
import numpy as np
import tensorflow as tf

from swa.tfkeras import SWA

EPOCHS = int((sys.argv + ["20"])[1])
layers = tf.keras.layers
hvd.init()


def sum_over_ranks(arrays):
    """The sum of each array over all ranks: for the batch-norm statistics."""
    return [hvd.allreduce(array, op=hvd.Sum) for array in arrays]


draw = np.random.RandomState(0)
y = draw.randint(10, size=3000)
x = draw.normal(draw.normal(size=(10, 20))[y], 1.5).astype(np.float32)
x, y, held_out = x[:2000], y[:2000], (x[2000:], y[2000:])
count = len(x) // hvd.size()  # each rank trains on equally many rows of its own
own = slice(hvd.rank() * count, (hvd.rank() + 1) * count)

model = tf.keras.Sequential(
    [
        layers.Dense(64, activation="relu", input_shape=(20,)),
        layers.BatchNormalization(),
        layers.Dense(10, activation="softmax"),
    ]
)
optimizer = hvd.DistributedOptimizer(tf.keras.optimizers.SGD(0.05, momentum=0.9))
model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

swa = SWA(EPOCHS * 3 // 4, "constant", swa_lr=0.025, ranks=sum_over_ranks)
broadcast = hvd.callbacks.BroadcastGlobalVariablesCallback(0)  # before SWA
model.fit(x[own], y[own], 50, EPOCHS, verbose=0, callbacks=[broadcast, swa])
if hvd.rank() == 0:
    model.save("average.h5")
    figures = model.evaluate(*held_out, verbose=0)
    print("average: loss %.4f, accuracy %.4f" % tuple(figures))
