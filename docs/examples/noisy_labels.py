"""SGD with a decayed rate beside SWA where a fifth of the labels is wrong.

usage: python noisy_labels.py [SEEDS] [EPOCHS] [ROWS]    default: 5 30 2000
"""

import importlib.util
import sys

import numpy as np
import tensorflow as tf

from swa.tfkeras import SWA, update_bn

SEEDS, EPOCHS, ROWS = map(int, (sys.argv[1:] + ["5", "30", "2000"])[:3])
LOSS, RATES = "sparse_categorical_crossentropy", (0.4, 0.2, 0.1, 0.05)
draw, keras, layers = np.random.RandomState(0), tf.keras, tf.keras.layers
centres = draw.normal(size=(40, 20))  # four of each class


def drawn(count):
    group = draw.randint(40, size=count)
    return draw.normal(centres[group], 0.8).astype(np.float32), group % 10


(x, y), validation, test = drawn(ROWS), drawn(1000), drawn(5000)
y[: ROWS // 5] = draw.randint(10, size=ROWS // 5)  # the wrong labels


def trained(arm, rate, seed, rows):
    """(cross entropy, accuracy) on rows; exact batch-norm statistics for both arms."""
    keras.backend.clear_session()
    np.random.seed(seed)
    tf.compat.v1.set_random_seed(seed)
    model = keras.Sequential([layers.InputLayer((20,))])
    for _ in range(2):
        decay = keras.regularizers.l2(0.004)
        model.add(layers.Dense(64, activation="relu", kernel_regularizer=decay))
        model.add(layers.BatchNormalization())
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(keras.optimizers.SGD(rate, 0.9), LOSS, metrics=[LOSS, "accuracy"])
    rates = np.interp(np.arange(EPOCHS) / EPOCHS, [0.5, 0.9], [rate, rate / 100])
    decayed = keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch])
    swa = SWA(EPOCHS * 3 // 4, "constant", swa_lr=rate)
    model.fit(x, y, 50, EPOCHS, 0, [swa if arm == "SWA" else decayed])
    update_bn(model, x)
    return model.evaluate(*rows, verbose=0)[1:]


figures = {}
for arm in ("SGD", "SWA"):  # each with the rate that is best on the validation rows
    best = min(RATES, key=lambda rate: trained(arm, rate, 100, validation)[0])
    figures[arm] = [trained(arm, best, seed, test) for seed in range(SEEDS)]
    for name, row in [*enumerate(figures[arm]), ("mean", np.mean(figures[arm], 0))]:
        print("%s, rate %g, %s: loss %.4f, accuracy %.4f" % (arm, best, name, *row))
if importlib.util.find_spec("matplotlib"):
    pyplot = importlib.import_module("matplotlib.pyplot")
    pyplot.boxplot([np.transpose(f)[1] for f in figures.values()], labels=[*figures])
    pyplot.ylabel("test accuracy")
    pyplot.savefig("noisy_labels.png")
