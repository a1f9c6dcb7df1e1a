# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the callback's tests share: rows, models, `fit`, callbacks, numpy's answers.

Most tests train one small model (`build`) for four epochs with SWA from the second one
on: the second and third epochs are averaged (`SAMPLED`), the fourth is the batch-norm
epoch. A `kit` is a Keras with its SWA, see `conftest.py`.
"""

import collections
import contextlib
import functools

import numpy as np
import pytest

ROWS = 50
FEATURES = 6
CLASSES = 3
BATCH = 16
BATCHES = 4  # ceil(50 / 16): the last batch is short
EPOCHS = 4
RATE = 0.1
SAMPLED = slice(1, 3)
EPSILON = 1e-3  # of batch norm, in both Kerases
CYCLIC = (2, "cyclic", 0.01, 0.05, 2)  # samples the second, fourth, sixth ... epoch
# what SWA warns of where the rows for the batch-norm epoch have not come
STAY = r"trained weights stay.*swa.apply\(x\)"

# a test of this mark runs in graph mode and, by test_eager.py, in eager mode too
both_modes = pytest.mark.both_modes
either_order = pytest.mark.parametrize(
    "first", [True, False], ids=["swa first", "swa last"]
)


# a test of this mark may get small models that an earlier test has trained, made as if
# new; `new_models` takes a test of a file out of it
used_models = pytest.mark.used_models
new_models = pytest.mark.new_models


def only_eager(reason):
    """Marks a test for eager mode alone; the reason goes on after "only eager mode"."""
    return pytest.mark.only_eager(reason)


# Rows


def data(seed=1, rows=ROWS):
    """Features (rows, FEATURES) and the class of each row."""
    generator = np.random.RandomState(seed)
    x = generator.randn(rows, FEATURES).astype("float32")
    return x, generator.randint(0, CLASSES, rows)


def batches_of(rows, size=BATCH):
    """The batches of an array, as `fit` makes them of rows in their order."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def sequence(kit, items):
    """A Keras Sequence of these batches."""

    class Batches(kit.keras.utils.Sequence):
        def __len__(self):
            return len(items)

        def __getitem__(self, index):
            return items[index]

    return Batches()


def data_set(rows):
    """A data set of single rows, of whatever structure."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(rows)


# Models


class UsedModels:
    """Models that tests hand on, because to build one is most of the time of a test.

    Those handed on stay in one graph, which must not be cleared; `forget` forgets them.
    """

    def __init__(self):
        self._built = collections.defaultdict(list)  # by builder and arguments
        self._taken = collections.Counter()  # in this test

    def begin_test(self):
        self._taken.clear()

    def forget(self):
        self._built.clear()
        self._taken.clear()

    def take(self, builder, kit, *args):
        """What a builder makes: one that this test has not had, with equal weights."""
        key = builder, kit.name, args
        number = self._taken[key]
        self._taken[key] += 1
        built = self._built[key]
        if number < len(built) and not built[number].is_as_built():
            del built[number:]
        if number == len(built):
            built.append(Used(kit, builder(kit, *args)))
        built[number].make_new(number)
        return built[number].result


class Used:
    """A model, and how it was built.

    Args:
      result: the model, or a tuple that begins with it.
    """

    def __init__(self, kit, result):
        self.result = result
        self._backend = kit.keras.backend
        self._model = result[0] if isinstance(result, tuple) else result
        self._optimizer = getattr(self._model, "optimizer", None)
        self._weights = self._model.get_weights()
        self._rate = self._optimizer and self._backend.get_value(self._optimizer.lr)
        self._structure = self._now()

    def _now(self):
        model = self._model
        return (
            [getattr(model, "optimizer", None), model.trainable] + model.layers,
            [layer.trainable for layer in model.layers],
            "fit" in vars(model),
        )

    def is_as_built(self):
        return self._now() == self._structure

    def make_new(self, seed):
        """Weights as an initializer draws them, no slots, the rate of then."""
        generator = np.random.RandomState(seed)
        pairs = []
        variables = [w for layer in self._model.layers for w in layer.weights]
        for variable, array in zip(variables, self._weights):
            if array.ndim == 2:  # a kernel, by Glorot's rule
                limit = np.sqrt(6 / sum(array.shape))
                array = generator.uniform(-limit, limit, array.shape)
            pairs.append((variable, array))
        if self._optimizer:
            pairs.append((self._optimizer.lr, self._rate))
            for slot in self._optimizer.weights:
                pairs.append((slot, np.zeros(slot.shape.as_list())))
        self._backend.batch_set_value(pairs)


def handed_on(builder):
    """Lets tests of `used_models` hand on what `builder(kit, *args)` makes."""

    @functools.wraps(builder)
    def take(kit, *args):
        return kit.used.take(builder, kit, *args) if kit.used else builder(kit, *args)

    return take


@handed_on
def small_model(kit, batch_norm):
    """A hidden layer, batch norm or none, a softmax; compiled."""
    model = layers_of_small_model(kit, batch_norm)
    compile_small_model(kit, model)
    return model


def layers_of_small_model(kit, batch_norm):
    layers = kit.keras.layers
    model = kit.keras.Sequential()
    model.add(layers.Dense(8, activation="relu", input_shape=(FEATURES,)))
    if batch_norm:
        model.add(layers.BatchNormalization())
    model.add(layers.Dense(CLASSES, activation="softmax"))
    return model


def compile_small_model(kit, model, optimizer=None, **options):
    optimizer = optimizer or kit.keras.optimizers.SGD(RATE, momentum=0.9)
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"], **options)


def build(kit, batch_norm=True, optimizer=None, learning_rate=RATE, **options):
    """The small model, compiled; its rate is that of its optimizer, if one is given."""
    if optimizer or options:
        model = layers_of_small_model(kit, batch_norm)
        compile_small_model(kit, model, optimizer, **options)
        return model
    model = small_model(kit, batch_norm)
    if learning_rate != RATE:
        kit.keras.backend.set_value(model.optimizer.lr, learning_rate)
    return model


def twins(kit, *args, **options):
    """Two small models with the same weights."""
    first = build(kit, *args, **options)
    second = build(kit, *args, **options)
    second.set_weights(first.get_weights())
    return first, second


def compiled(kit, inputs, outputs, loss="mse", **options):
    """A model from its inputs to its outputs, with an optimizer that has slots."""
    model = kit.keras.Model(inputs, outputs)
    model.compile(kit.keras.optimizers.SGD(0.05, momentum=0.9), loss, **options)
    return model


@handed_on
def two_inputs(kit):
    """A model, not compiled, of inputs `z` and then `a`, and its batch-norm layers."""
    layers = kit.keras.layers
    inputs = [layers.Input((FEATURES,), name=name) for name in ("z", "a")]
    norms = [layers.BatchNormalization(momentum=1.0) for _ in inputs]
    joint = layers.concatenate([norm(rows) for norm, rows in zip(norms, inputs)])
    return kit.keras.Model(inputs, layers.Dense(1)(joint)), norms


def rate_of(kit, model):
    return float(kit.keras.backend.get_value(model.optimizer.lr))


def slots_of(kit, model):
    """The optimizer's variables, `iterations` among them."""
    return kit.keras.backend.batch_get_value(model.optimizer.weights)


# Training


def fit(model, *callbacks, rows=None, **options):
    """Trains on the usual rows in their order; returns the history as a dict."""
    x, y = rows or data()
    options.setdefault("batch_size", BATCH)
    options.setdefault("epochs", EPOCHS)
    options.setdefault("shuffle", False)
    return model.fit(x, y, verbose=0, callbacks=list(callbacks), **options).history


def in_order(swa, other, first):
    """Both callbacks, SWA first or last."""
    return [swa, other] if first else [other, swa]


def recorder(kit):
    """A callback that writes down what others can see."""

    class Recorder(kit.keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.begun = self.model.get_weights()
            self.rates, self.end_rates = [], []  # by batch; by epoch
            self.weights, self.slots = [], []  # by epoch

        def on_batch_begin(self, batch, logs=None):
            self.rates.append(rate_of(kit, self.model))

        def on_epoch_end(self, epoch, logs=None):
            self.end_rates.append(rate_of(kit, self.model))
            self.weights.append(self.model.get_weights())
            self.slots.append(slots_of(kit, self.model))

    return Recorder()


def at(kit, hook, act, epoch=None, batch=None):
    """A callback that acts in one hook.

    Args:
      hook: str, "on_batch_end" for instance.
      act: function of the model.
      epoch, batch: int from zero, where it acts, once; None: each time.
    """

    class At(kit.keras.callbacks.Callback):
        epoch = batch = None
        has_acted = False

        def reach(self, here):
            is_here = epoch in (None, self.epoch) and batch in (None, self.batch)
            is_over = self.has_acted and epoch is not None
            if here == hook and is_here and not is_over:
                self.has_acted = True
                act(self.model)

        def on_train_begin(self, logs=None):
            self.reach("on_train_begin")

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch
            self.batch = None
            self.reach("on_epoch_begin")

        def on_batch_begin(self, batch, logs=None):
            self.batch = batch
            self.reach("on_batch_begin")

        def on_batch_end(self, batch, logs=None):
            self.reach("on_batch_end")

        def on_test_begin(self, logs=None):
            self.reach("on_test_begin")

        def on_epoch_end(self, epoch, logs=None):
            self.reach("on_epoch_end")

        def on_train_end(self, logs=None):
            self.reach("on_train_end")

    return At()


def stop(model):
    """For `at`."""
    model.stop_training = True


def interrupt(model):
    """For `at`: as Ctrl-C."""
    raise KeyboardInterrupt


def spoil(model):
    """For `at`: a weight becomes NaN."""
    weights = model.get_weights()
    weights[0][0, 0] = np.nan
    model.set_weights(weights)


def interrupted(kit, model, swa, epoch, *callbacks, **options):
    """A `fit` that Ctrl-C ends after the first batch of an epoch (from zero)."""
    ctrl_c = at(kit, "on_batch_end", interrupt, epoch, 0)
    with pytest.raises(KeyboardInterrupt, match="^$"):
        fit(model, *callbacks, swa, ctrl_c, **options)


def best_keeper(kit, patience):
    """Stops after 1 + patience epochs and restores the weights of the first."""
    return kit.keras.callbacks.EarlyStopping(
        monitor="loss",
        mode="max",
        min_delta=1e9,
        patience=patience,
        restore_best_weights=True,
    )


# What must hold


def equal(first, second):
    """Whether two lists of arrays are equal bit by bit."""
    return all(np.array_equal(a, b) for a, b in zip(first, second))


def mean_of(sets):
    """The mean of lists of arrays, in float64."""
    return [np.mean([np.float64(s[i]) for s in sets], 0) for i in range(len(sets[0]))]


def statistics_of(model):
    """Where the statistics of batch norm are in `get_weights()`."""
    weights = [weight for layer in model.layers for weight in layer.weights]
    return [i for i, weight in enumerate(weights) if "/moving_" in weight.name]


def assert_mean(weights, sets, skip=()):
    """Weights are the mean of sets of weights, but for some of their indices."""
    for index, (weight, mean) in enumerate(zip(weights, mean_of(sets))):
        if index not in skip:
            # atol: a few float32 roundings at magnitude 1
            np.testing.assert_allclose(weight, mean, rtol=1e-6, atol=1e-6)


def assert_averaged(model, samples, x=None):
    """The model has the mean of the samples and, if small, the statistics of `x`."""
    assert_mean(model.get_weights(), samples, statistics_of(model))
    if x is not None:
        assert_statistics(model.get_weights(), x)


def assert_statistics(weights, x):
    """The small model's moving mean and variance are those of all rows."""
    hidden = np.maximum(np.float64(x) @ weights[0] + weights[1], 0)
    # the bound that the documents promise for float32 models
    np.testing.assert_allclose(weights[4], hidden.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(weights[5], hidden.var(0), rtol=1e-5, atol=1e-5)


def assert_moments(layer, rows, tolerance=1e-5):
    """A batch-norm layer has the moments of rows (..., channels)."""
    rows = np.float64(rows).reshape(-1, rows.shape[-1])
    mean, variance = layer.get_weights()[-2:]
    close = dict(rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(mean, rows.mean(0), **close)
    np.testing.assert_allclose(variance, rows.var(0), **close)


def assert_rates(rates, swa, epochs, batches=BATCHES, first=0):
    """Rates of a `fit`, from its epoch `first` on, are those that SWA has planned."""
    planned = swa.plan(epochs, batches, 0.1).rates[first:]
    # rtol: float32 holds the rate, after three roundings
    np.testing.assert_allclose(rates, planned.ravel(), rtol=5e-7)


@contextlib.contextmanager
def refused(message):
    """Within it a ValueError is raised whose text is one line."""
    with pytest.raises(ValueError, match=message) as error:
        yield
    text = str(error.value)
    del error  # it and this frame hold each other, and the scopes that the call was in
    assert len(text.splitlines()) == 1


# Several ranks


class FakeRank:
    """One rank's `sum`, where the sums agreed so far are known."""

    def __init__(self, agreed):
        self.agreed = agreed
        self.own = []

    def sum(self, arrays):
        # a card's collectives know no float64
        own = [np.asarray(a, "int64" if a.dtype.kind == "i" else "f4") for a in arrays]
        self.own.append(own)
        calls = len(self.own)
        return own if calls > len(self.agreed) else self.agreed[calls - 1]


def on_two_ranks(work):
    """Runs `work(rank, ranks)` for two ranks, as if at once; returns how many sums.

    What a rank gives to its n-th `sum` follows from the sums before: these are
    computed one by one, each from a run of both ranks.
    """
    agreed = []
    while True:
        ranks = FakeRank(agreed), FakeRank(agreed)
        for rank in (0, 1):
            work(rank, ranks[rank])
        first, second = [[[a.shape for a in call] for call in r.own] for r in ranks]
        assert first == second, "ranks must ask for the same sums in the same order"
        if len(first) == len(agreed):
            return len(agreed)
        pairs = zip(*[rank.own[len(agreed)] for rank in ranks])
        agreed.append([mine + other for mine, other in pairs])
