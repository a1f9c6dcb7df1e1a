# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What test/check_npu.py lets the NPU run beside the train script.

    python npu_programs.py NAME [ARGUMENT] ...

Each program is a process of its own, and leaves its findings in facts.json.
"""

import contextlib
import json
import os
import resource
import sys
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EPOCHS = 8  # of the callback's run
# Relative error of moments in float32, and of the weights after a step: the rows and
# weights are integers and powers of two, which a float16 holds too.
FLOAT32_ERROR = 1e-5
LARGEST_GROWTH = 32  # megabytes in four epochs of four small batches


@contextlib.contextmanager
def opened(device, mode, **settings):
    """The trainer's Config, in a session of the trainer's on that device."""
    sys.path.insert(0, ROOT)
    from swa.training import machine, session
    from swa.training.flags import Config
    from swa.training.settings import checked

    config = checked(
        Config(
            device=device,
            precision_mode=mode,
            num_samples=256,
            batch_size=256,
            **settings,
        )
    )
    with session.opened(config, machine.choose(config, os.environ)):
        yield config


def build(config):
    """The trainer's model."""
    from swa.training import network

    return network.build(config, config.num_features)


def write(facts):
    """Leaves facts where the check finds them."""
    with open("facts.json", "w") as file:
        json.dump(facts, file)


# A precision mode


def probabilities(device, mode, steps):
    """Those of fixed rows after some training steps from fixed weights."""
    generator = np.random.RandomState(0)
    with opened(device, mode) as config:
        network = build(config)
        y = generator.randint(config.num_classes, size=256).astype(np.int32)
        centres = generator.uniform(-3, 3, (config.num_classes, config.num_features))
        x = (centres[y] + generator.randn(256, config.num_features)).astype(np.float32)
        # from numpy: the devices' random generators differ
        weights = [
            0.3 * generator.randn(*array.shape) if array.ndim == 2 else array
            for array in network.get_weights()
        ]
        network.set_weights(weights)
        for _ in range(int(steps)):
            network.train_on_batch(x, y)
        write({"probabilities": network.predict_on_batch(x).astype(float).tolist()})


def mode(name):
    """The moments of an unfused layer, and a step of SGD, against numpy."""
    with opened("npu", name):
        facts = dict(moments=unfused_moments())
        write(facts)
        write(dict(facts, step=one_step()))


def unfused_moments():
    """How far the moments of a layer after a product are from those of its rows.

    Returns:
      {"error": the largest relative one, "saturated": what comes back of a variance
      with deviations whose squares a float16 cannot hold, over the right one}.
    """
    import tensorflow as tf

    from swa.tfkeras import update_bn

    layers = tf.keras.layers
    kernel = np.float32([[1, 1, 64], [0, 100, 0]])
    model = tf.keras.Sequential()
    model.add(layers.Dense(3, use_bias=False, input_shape=(2,)))
    model.add(layers.BatchNormalization())
    model.set_weights([kernel, *model.get_weights()[1:]])
    x = np.ones((256, 2), np.float32)
    x[:, 0] = np.random.RandomState(0).randint(16, size=256)
    update_bn(model, x, batch_size=64)
    *_, mean, variance = [array.astype(np.float64) for array in model.get_weights()]
    rows = x.astype(np.float64) @ kernel
    expected = np.array([rows.mean(axis=0), rows.var(axis=0)])
    errors = np.abs([mean, variance] - expected) / expected
    return {
        "error": float(errors[:, :2].max()),
        "saturated": float(variance[2] / expected[1, 2]),
    }


def one_step():
    """A step of SGD with SWA: which rate it used, SWA's word on it, and the weights.

    Returns:
      {"used": float, "told": float, "planned": float, "error": the largest of a
      weight's change, relative to the largest change}.
    """
    import tensorflow as tf

    from swa.tfkeras import SWA

    planned, weights = 0.1, np.float32([[0.5], [-0.25]])
    x = np.float32([[1, 2], [2, -1], [0, 1], [4, 2]])
    y = np.float32([[1], [0], [2], [-1]])
    model = tf.keras.Sequential()
    model.add(tf.keras.layers.Dense(1, use_bias=False, input_shape=(2,)))
    model.compile(tf.keras.optimizers.SGD(planned), "mse")
    model.set_weights([weights])
    after = []

    class Before(tf.keras.callbacks.Callback):
        """Before SWA: the weights as an epoch of one batch left them."""

        def on_epoch_end(self, epoch, logs=None):
            after.append(self.model.get_weights()[0])

    swa = SWA(2, "constant", planned)
    history = model.fit(x, y, 4, 3, verbose=0, callbacks=[Before(), swa])
    gradient = 2 / len(x) * x.T.astype(np.float64) @ (x @ weights - y)
    change = weights.astype(np.float64) - after[0]
    used = float(np.sum(change * gradient) / np.sum(gradient * gradient))
    errors = np.abs(change - planned * gradient) / np.max(np.abs(planned * gradient))
    told = float(history.history["lr"][0])
    return dict(used=used, told=told, planned=planned, error=float(errors.max()))


# Fused layers


def fused():
    """The moments of fused layers against numpy, in both layouts; a large mean."""
    facts = {}
    with opened("npu", "allow_mix_precision"):
        for name, judge in (
            ("fused", lambda: judge_fused("channels_last")),
            ("channels_first", lambda: judge_fused("channels_first")),
            ("large_mean", judge_large_mean),
        ):
            try:
                facts[name] = judge()
            except Exception as error:  # the next one may do
                facts[name] = [False, str(error).splitlines()[0]]
            write(facts)


def fused_moments(x, layout, kernel=None):
    """The statistics that `update_bn` finds for a fused layer from one batch.

    Args:
      x: array of images, channels last.
      layout: "channels_last" or "channels_first".
      kernel: array (channels,), what a convolution before the layer multiplies each
        channel by; None: there is no convolution.

    Returns:
      (mean, variance), float64 arrays (channels,).
    """
    import tensorflow as tf

    from swa.tfkeras import update_bn

    layers, is_first = tf.keras.layers, layout == "channels_first"
    x = x.transpose(0, 3, 1, 2) if is_first else x
    images = layers.Input(x.shape[1:])
    hidden = images
    if kernel is not None:
        convolution = layers.Conv2D(len(kernel), 1, use_bias=False, data_format=layout)
        hidden = convolution(hidden)
    layer = layers.BatchNormalization(axis=1 if is_first else 3, fused=True)
    model = tf.keras.Model(images, layer(hidden))
    if kernel is not None:
        convolution.set_weights([np.diag(kernel)[None, None]])
    update_bn(model, x, batch_size=len(x))
    *_, mean, variance = layer.get_weights()
    return mean.astype(np.float64), variance.astype(np.float64)


def judge_fused(layout):
    """Whether a fused variance over 32 values is divided by n - 1, and right.

    By n it would come out smaller by 3 %, for SWA takes it to be divided by n - 1.
    """
    generator = np.random.RandomState(0)
    x = generator.randint(-8, 8, (2, 4, 4, 8)).astype(np.float32)
    kernel = np.float32([0.5, 1, 2, 4, 0.5, 1, 2, 4])
    mean, variance = fused_moments(x, layout, kernel)
    values = (x * kernel).reshape(-1, 8).astype(np.float64)
    n, expected = len(values), values.var(axis=0)
    error = float(np.max(np.abs(mean - values.mean(axis=0)) / np.sqrt(expected)))
    ratio = variance / expected
    divisors = (("n - 1", 1.0), ("n", (n - 1) / n))
    found = [name for name, r in divisors if np.allclose(ratio, r, FLOAT32_ERROR * 5)]
    divisor = found[0] if found else "neither n - 1 nor n"
    is_ok = divisor == "n - 1" and error <= FLOAT32_ERROR
    measured = (
        f"the variance is divided by {divisor}; over numpy's "
        f"{ratio.min():.6f} to {ratio.max():.6f} (n = {n}), mean off by {error:.1e}"
    )
    return [is_ok, measured]


def judge_large_mean():
    """Whether a tiny variance beside a large mean stays a variance.

    From squares, in float32, it may be off by some roundings of the mean's square, and
    come out below zero.
    """
    generator = np.random.RandomState(0)
    x = (1000.3 + 0.01 * generator.randn(2, 4, 4, 64)).astype(np.float32)
    mean, variance = fused_moments(x, "channels_last")
    values = x.reshape(-1, 64).astype(np.float64)
    expected = values.var(axis=0)
    error = float(np.max(np.abs(mean / values.mean(axis=0) - 1)))
    room = 8 * np.finfo(np.float32).eps * 1000.3**2
    off = float(np.max(np.abs(variance - expected)))
    is_ok = variance.min() >= 0 and off <= room and error <= FLOAT32_ERROR
    measured = (
        f"a variance of {expected.mean():.1e} comes back as {variance.min():.1e} to "
        f"{variance.max():.1e}, its mean off by {error:.1e} of itself"
    )
    return [bool(is_ok), measured]


# The callback


def callback():
    """Trains with SWA: what it says, what the NPU holds, and the memory it takes."""
    import tensorflow as tf

    backend = tf.compat.v1.keras.backend
    by_epoch, rates, peaks, in_pass = [], [], [], []

    def state():
        """What training changes: weights, and what the optimizer keeps."""
        kept = network.trainable_weights + network.optimizer.weights
        return backend.batch_get_value(kept)

    class Before(tf.keras.callbacks.Callback):
        """Before SWA: the weights as an epoch of training left them."""

        def on_epoch_end(self, epoch, logs=None):
            by_epoch.append(self.model.get_weights())
            if epoch == EPOCHS - 1:
                in_pass.append(state())

    class After(tf.keras.callbacks.Callback):
        """After SWA: the rate that the card has for the batch, and SWA's."""

        def on_epoch_begin(self, epoch, logs=None):
            peaks.append(peak_memory())

        def on_batch_begin(self, batch, logs=None):
            read = float(backend.get_value(self.model.optimizer.lr))
            rates.append((read, swa.lr))
            if batch == 0 and len(peaks) == EPOCHS:
                in_pass.append(state())

    generator = np.random.RandomState(0)
    with opened("npu", "allow_mix_precision", momentum="0.9") as config:
        from swa.tfkeras import SWA

        network = build(config)
        y = generator.randint(config.num_classes, size=256).astype(np.int32)
        x = generator.randn(256, config.num_features).astype(np.float32)
        puts = [put_and_read(network, generator) for _ in range(2)]
        swa = SWA(3, "cyclic", 0.01, 0.04, 2)
        callbacks = [Before(), swa, After()]
        network.fit(x, y, 64, EPOCHS, verbose=0, callbacks=callbacks)
        facts = {
            "weights": judge_weights(network, swa, by_epoch, x),
            "rate": judge_rates(swa, rates, config.learning_rate),
            "pass": judge_pass(*in_pass),
            "memory": judge_memory(peaks),
        }
        puts += [put_and_read(network, generator) for _ in range(2)]
        facts["put"] = judge_puts(puts)
    write(facts)


def put_and_read(model, generator):
    """Puts weights by fed initializers, as SWA does, and reads them.

    Returns:
      (bool, whether they came back bit for bit; float, seconds that putting took);
      the model is as before.
    """
    import tensorflow as tf

    backend = tf.compat.v1.keras.backend
    before = backend.batch_get_value(model.weights)
    arrays = [generator.randn(*array.shape).astype(array.dtype) for array in before]

    def put(values):
        places = [weight.initializer.inputs[1] for weight in model.weights]
        initializers = [weight.initializer for weight in model.weights]
        backend.get_session().run(initializers, dict(zip(places, values)))

    start = time.perf_counter()
    put(arrays)
    seconds = time.perf_counter() - start
    is_same = are_same(backend.batch_get_value(model.weights), arrays)
    put(before)
    return is_same, seconds


def peak_memory():
    """The most memory that this process has had on the host, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def are_same(arrays, expected):
    """Whether they are equal bit for bit."""
    return all(np.array_equal(a, b) for a, b in zip(arrays, expected))


def judge_puts(puts):
    """Whether all weights came back, and how long the puts took: [bool, str].

    Args:
      puts: list of (bool, float) as of `put_and_read`: two before training, two after.
    """
    names = "first", "second", "after training", "again"
    times = ", ".join(f"{name} {put[1]:.3f} s" for name, put in zip(names, puts))
    lost = [name for name, put in zip(names, puts) if not put[0]]
    told = f"not bit for bit: {', '.join(lost)}; " if lost else ""
    return [not lost, f"{told}put {times}"]


def judge_pass(at_begin, at_end):
    """Whether the pass left weights and slots as they were: [bool, str].

    Args:
      at_begin, at_end: lists of arrays: read once SWA has begun the last epoch, and
        before it ends it.
    """
    changed = sum(not np.array_equal(a, b) for a, b in zip(at_end, at_begin))
    return [changed == 0, f"{changed} of {len(at_end)} weights and slots changed"]


def judge_memory(peaks):
    """Whether the host's memory stops growing: [bool, str].

    Args:
      peaks: list of floats, megabytes, at the begin of each epoch.
    """
    growth = peaks[-2] - peaks[2]  # all graphs but the pass's are compiled there
    told = f"peak {peak_memory():.0f} MB on the host, {growth:.0f} MB more in"
    return [growth <= LARGEST_GROWTH, f"{told} {len(peaks) - 4} epochs"]


def judge_weights(model, swa, by_epoch, x):
    """Whether trained and averaged weights are what they should be, and where.

    Args:
      model: it has the averaged weights, with statistics of the last epoch.
      swa: the callback.
      by_epoch: list of lists of arrays, the weights at the end of each epoch.
      x: array, training rows.

    Returns:
      [bool, str]: whether all is right, and what was measured.
    """
    plan = swa.plan(EPOCHS, 1)
    trained = by_epoch[plan.batch_norm_epoch - 2]  # of the epoch before the pass
    sets = [by_epoch[epoch - 1] for epoch in plan.sampled_epochs]
    mean = [np.mean(arrays, axis=0, dtype=np.float64) for arrays in zip(*sets)]
    is_trained = [weight.trainable for weight in model.weights]  # no statistics

    def is_near(arrays, expected):
        pairs = zip(arrays, expected, is_trained)
        return all(np.allclose(a, b, 0, 1e-5) for a, b, counts in pairs if counts)

    at_end = model.get_weights()
    apart = max(float(np.max(np.abs(a - b))) for a, b in zip(mean, trained))
    wrong = []

    def expect(what, is_right):
        if not is_right:
            wrong.append(what)

    average = swa.averaged_weights
    expect("average is not the mean of the samples", is_near(average, mean))
    expect("average is not the model's at the end", is_near(at_end, mean))
    expect("average and trained weights cannot be told apart", apart > 1e-3)
    with swa.trained_weights():
        expect("trained weights not put in", are_same(model.get_weights(), trained))
    expect("average not given back", are_same(model.get_weights(), at_end))
    swa.restore()
    expect("trained weights not restored", are_same(model.get_weights(), trained))
    with swa.average_applied(x, 64):
        expect("average not put in", is_near(model.get_weights(), mean))
    expect("trained weights not given back", are_same(model.get_weights(), trained))
    measured = f"{len(sets)} samples; average and trained differ by up to {apart:.1e}"
    return [not wrong, "; ".join(wrong + [measured])]


def judge_rates(swa, rates, learning_rate):
    """Whether the card had the planned rate in every batch: [bool, str].

    Args:
      swa: the callback.
      rates: list of (the card's, SWA's), by batch.
      learning_rate: float, the compiled rate.
    """
    batches = len(rates) // EPOCHS
    plan = swa.plan(EPOCHS, batches, learning_rate)
    planned = np.nan_to_num(plan.rates.ravel())
    read, told = np.array(rates).T
    cycle = slice((EPOCHS - 3) * batches, (EPOCHS - 1) * batches)
    differences = [float(np.max(np.abs(a - planned))) for a in (read, told)]
    measured = (
        f"one cycle on the card: {read[cycle].max():.4f} to {read[cycle].min():.4f}; "
        f"largest difference from the plan {differences[0]:.1e}, "
        f"of what SWA tells {differences[1]:.1e}"
    )
    return [max(differences) <= 1e-6, measured]  # float32 at 0.04


PROGRAMS = {
    program.__name__: program for program in (probabilities, mode, fused, callback)
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
