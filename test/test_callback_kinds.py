# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Kinds of faults that scripts of users showed, each with the right value.

`test_eager.py` runs this file once more with SWA_TEST_MODE=eager. Models are small;
the rows are those of `test_callback.data`.
"""

import itertools

import numpy as np
import pytest
from test_callback import (
    BATCH,
    CLASSES,
    FEATURES,
    ROWS,
    STATISTICS,
    assert_mean,
    assert_statistics,
    build,
    data,
    equal,
    rate_of,
    recorder,
)

pytestmark = pytest.mark.both_modes


def run(model, callbacks, **options):
    x, y = options.pop("data", None) or data()
    options = dict(dict(batch_size=BATCH, epochs=4, shuffle=False), **options)
    return model.fit(x, y, verbose=0, callbacks=callbacks, **options)


def one_line(error):
    return len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch norm", "plain"])
def test_a_second_swa_in_one_fit_is_refused_and_the_model_trains_on(kit, batch_norm):
    model, seen = build(kit, batch_norm), recorder(kit)
    with pytest.raises(ValueError, match="must hold one SWA in a fit of") as error:
        run(model, [kit.SWA(2, "constant", 0.01), kit.SWA(3)])
    assert one_line(error)
    run(model, [seen])
    np.testing.assert_allclose(seen.rates, 0.1, rtol=1e-6)
    assert not equal(seen.weights[0], seen.weights[1])
    run(model, [kit.SWA(2), seen])
    sampled = seen.weights[1 : 3 if batch_norm else 4]
    assert_mean(model.get_weights(), sampled, skip=STATISTICS)


@pytest.mark.parametrize("same", [True, False], ids=["the same one", "another"])
def test_swa_in_a_nested_fit_of_the_same_model_is_refused(kit, same):
    model, swa = build(kit, False), kit.SWA(2)
    inner = swa if same else kit.SWA(2)

    class Nest(kit.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                run(self.model, [inner])

    with pytest.raises(ValueError, match="nested fits included, got a second"):
        run(model, [swa, Nest()])
    run(model, [swa])
    assert swa.n_averaged == 3


def test_a_nested_fit_of_another_model_is_no_concern(kit):
    model, other, seen = build(kit), build(kit), recorder(kit)

    class Nest(kit.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                run(other, [kit.SWA(2)])

    run(model, [kit.SWA(2), Nest(), seen])
    assert_mean(model.get_weights(), seen.weights[1:3], skip=STATISTICS)
    assert_statistics(other.get_weights(), data()[0])


# Statistics by another rule


def own_norm(kit, rule):
    """A user's batch norm: `rule` (inputs) -> (mean, variance)."""
    import tensorflow as tf

    class Own(kit.keras.layers.Layer):
        axis = -1

        def build(self, shape):
            options = dict(shape=(int(shape[-1]),), trainable=False)
            self.moving_mean = self.add_weight(
                name="moving_mean", initializer="zeros", **options
            )
            self.moving_variance = self.add_weight(
                name="moving_variance", initializer="ones", **options
            )
            super().build(shape)

        def call(self, inputs):
            mean, variance = rule(inputs)
            for variable, new in (
                (self.moving_mean, mean),
                (self.moving_variance, variance),
            ):
                step = (variable - new) * 0.1
                if kit.name == "keras":
                    self.add_update([tf.compat.v1.assign_sub(variable, step)], inputs)
                elif kit.is_eager:
                    self.add_update(lambda v=variable, s=step: v.assign_sub(s))
                else:
                    self.add_update(
                        lambda v=variable, s=step: v.assign_sub(s), inputs=True
                    )
            return (inputs - mean) / tf.sqrt(variance + 1e-3)

        def compute_output_shape(self, shape):
            return shape

    return Own()


RULES = ["sums", "raw moments", "deviations", "switch norm", "masked"]
RULES += ["deviations from another mean", "deviations not squared"]


def rules():
    import tensorflow as tf

    def sums(x):
        n = tf.cast(tf.shape(x)[0], tf.float32)
        mean = tf.reduce_sum(x, 0) / n
        return mean, tf.reduce_sum(tf.square(x - mean), 0) / n

    def raw(x):
        mean = tf.reduce_mean(x, 0)
        return mean, tf.reduce_mean(tf.square(x), 0) - tf.square(mean)

    def deviations(x):
        mean, variance = tf.nn.moments(x, [0])
        return mean, tf.sqrt(variance)

    def mixed(x):
        mean, variance = tf.nn.moments(x, [0])
        layer_mean, layer_variance = tf.nn.moments(x, [1], keepdims=True)
        return (
            0.5 * mean + 0.5 * tf.reduce_mean(layer_mean),
            0.5 * variance + 0.5 * tf.reduce_mean(layer_variance),
        )

    def masked(x):
        mask = tf.cast(x > 0, tf.float32)
        n = tf.reduce_sum(mask, 0) + 1.0
        mean = tf.reduce_sum(x * mask, 0) / n
        return mean, tf.reduce_sum(mask * tf.square(x - mean), 0) / n

    def other_axes(x):
        mean = tf.reduce_mean(x, 0)
        return mean, tf.reduce_mean(tf.square(x - tf.reduce_mean(x, 1, True)), 0)

    def not_squared(x):
        mean = tf.reduce_mean(x, 0)
        return mean, tf.reduce_mean(x - mean, 0)

    return {
        "sums": sums,
        "raw moments": raw,
        "deviations": deviations,
        "switch norm": mixed,
        "masked": masked,
        "deviations from another mean": other_axes,
        "deviations not squared": not_squared,
    }


@pytest.mark.parametrize("behind", [True, False], ids=["behind one", "alone"])
@pytest.mark.parametrize("name", RULES)
def test_a_batch_norm_by_another_rule_is_refused_by_name(kit, name, behind):
    layers, own = kit.keras.layers, own_norm(kit, rules()[name])
    before = [layers.BatchNormalization()] if behind else []
    model = kit.keras.Sequential(
        [layers.Dense(8, input_shape=(FEATURES,))]
        + before
        + [own, layers.Dense(CLASSES, activation="softmax")]
    )
    model.compile(kit.keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    trained = model.get_weights()
    with pytest.raises(ValueError, match=f"batch-norm layer '{own.name}'") as error:
        run(model, [kit.SWA(2)])
    assert one_line(error) and equal(model.get_weights(), trained)
    run(model, [], epochs=1)
    assert not equal(model.get_weights()[:1], trained[:1])


def test_a_users_batch_norm_by_plain_moments_is_right_or_refused(kit):
    import tensorflow as tf

    own = own_norm(kit, lambda x: tf.nn.moments(x, [0]))
    layers = kit.keras.layers
    model = kit.keras.Sequential(
        [layers.Dense(8, input_shape=(FEATURES,)), own, layers.Dense(CLASSES)]
    )
    model.compile(
        kit.keras.optimizers.SGD(0.01),
        lambda t, p: kit.keras.backend.mean(kit.keras.backend.square(p - 0.0 * t)),
    )
    if kit.is_eager:  # nothing shows there where its moments come from
        with pytest.raises(ValueError, match=f"batch-norm layer '{own.name}'"):
            run(model, [kit.SWA(2)])
        return
    run(model, [kit.SWA(2)])
    kernel, bias = model.layers[0].get_weights()
    hidden = np.float64(data()[0]) @ kernel + bias
    np.testing.assert_allclose(own.get_weights()[0], hidden.mean(0), atol=1e-5)
    np.testing.assert_allclose(own.get_weights()[1], hidden.var(0), rtol=1e-5)


def test_a_batch_norm_in_a_loop_is_refused_by_name(tf_kit):
    if tf_kit.is_eager:
        pytest.skip("only graph mode hides a loop's moments")
    layers, keras = tf_kit.keras.layers, tf_kit.keras

    class Cell(layers.Layer):
        units = state_size = output_size = 3

        def build(self, shape):
            self.norm = layers.BatchNormalization(name="within")
            self.norm.build((None, 3))
            super().build(shape)

        def call(self, inputs, states):
            output = self.norm(inputs + states[0])
            return output, [output]

    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, layers.Dense(1)(layers.RNN(Cell())(inputs)))
    model.compile("sgd", "mse")
    x = np.random.randn(ROWS, 5, 3).astype("float32")
    # stock Keras itself fails with such a model, at the first batch and in many lines
    with pytest.raises(ValueError, match="batch-norm layer 'within'") as error:
        run(model, [tf_kit.SWA(2)], data=(x, x[:, 0, :1]))
    assert one_line(error)


# Subclasses of batch norm


def test_a_wrapped_train_function_and_batch_norm_are_refused(kit):
    if kit.is_eager:
        pytest.skip("only graph mode has a train function")
    model = build(kit)
    model._make_train_function()
    inner = model.train_function
    model.train_function = lambda values: inner(values)
    with pytest.raises(ValueError, match="train_function must be Keras's own") as error:
        run(model, [kit.SWA(2, "constant", 0.01)])
    assert one_line(error)
    before = model.get_weights()
    run(model, [], epochs=1)
    assert not equal(before, model.get_weights())


def flagged(kit, kind, flag):
    """A model whose batch norm trains while a flag of the user holds, and the norm."""
    import tensorflow as tf

    keras, layers = kit.keras, kit.keras.layers
    shape = (2, 1, 3) if kind == "fused" else (FEATURES,)
    phase = tf.cast(keras.backend.learning_phase(), "bool")
    inputs, norm = keras.Input((FEATURES,)), layers.BatchNormalization()
    training = None if flag is None else tf.logical_and(phase, flag)
    outputs = norm(layers.Reshape(shape)(inputs), training=training)
    outputs = layers.Dense(CLASSES, activation="softmax")(layers.Flatten()(outputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model, norm


@pytest.mark.parametrize("kind", ["fused", "unfused"])
def test_a_batch_whose_flag_is_off_moves_no_statistics(tf_kit, kind):
    if tf_kit.is_eager:
        pytest.skip("only graph mode has a predicate")
    backend = tf_kit.keras.backend
    flag = backend.variable(True, dtype="bool")
    model, norm = flagged(tf_kit, kind, flag)

    class Sets(tf_kit.keras.callbacks.Callback):
        def on_batch_begin(self, batch, logs=None):
            backend.set_value(flag, batch in trained)

    x, y = data()
    count = -(-len(x) // BATCH)
    for trained in (range(count), range(1), ()):
        before = norm.get_weights()[2:]
        swa = tf_kit.SWA(2)
        run(model, [swa, Sets()], data=(x + 3, y))
        seen = np.concatenate([(x + 3)[i * BATCH :][:BATCH] for i in trained] or [x])
        seen = np.float64(seen.reshape((-1, norm.get_weights()[2].size)))
        assert swa.batch_norm_epoch == 4
        mean, variance = (seen.mean(0), seen.var(0)) if trained else before
        np.testing.assert_allclose(norm.get_weights()[2], mean, rtol=1e-5)
        np.testing.assert_allclose(norm.get_weights()[3], variance, rtol=1e-5)


def test_a_flag_that_the_user_feeds(tf_kit):
    import tensorflow as tf

    if tf_kit.is_eager:
        pytest.skip("only graph mode feeds")
    shape = (2, 1, 3)
    for value in (False, True):
        flag = tf.compat.v1.placeholder_with_default(False, ())
        norm = tf_kit.keras.layers.BatchNormalization()
        inputs = tf_kit.keras.Input(shape)
        outputs = tf_kit.keras.layers.Flatten()(norm(inputs, training=flag))
        model = tf_kit.keras.Model(inputs, tf_kit.keras.layers.Dense(1)(outputs))
        model.compile("sgd", "mse", feed_dict={flag: value})
        x = np.float64(data()[0]).reshape((-1, *shape))
        run(model, [tf_kit.SWA(2)], data=(x, x[:, 0, 0, :1]))
        mean = x.mean((0, 1, 2)) if value else np.zeros(3)
        np.testing.assert_allclose(norm.get_weights()[2], mean, atol=1e-6)


def test_a_phase_fixed_after_the_model_was_built_holds_the_statistics(tf_kit):
    """As in plain training, which does not feed the phase then; `apply` does."""
    if tf_kit.is_eager:
        pytest.skip("only graph mode has a phase that is fed")
    model, norm = flagged(tf_kit, "fused", None)
    x, swa = data()[0], tf_kit.SWA(2)
    run(model, [swa])
    tf_kit.keras.backend.set_learning_phase(0)
    swa.apply(x + 2)
    mean = np.float64(x + 2).reshape((-1, 3)).mean(0)
    np.testing.assert_allclose(norm.get_weights()[2], mean, rtol=1e-5)
    before = norm.get_weights()[2:]
    run(model, [swa])
    np.testing.assert_allclose(norm.get_weights()[2], before[0], rtol=1e-6)
    np.testing.assert_allclose(norm.get_weights()[3], before[1], rtol=1e-6)


def test_a_batch_norm_within_a_tf_function_is_refused_by_name(tf_kit):
    import tensorflow as tf

    if tf_kit.is_eager:
        pytest.skip("only graph mode hides the moments of a tf.function")
    layers = tf_kit.keras.layers
    norm = layers.BatchNormalization(name="within")
    head = layers.Dense(CLASSES, activation="softmax")

    class Traced(tf_kit.keras.Model):
        def __init__(self):
            super().__init__()
            self.norm, self.head = norm, head

        @tf.function
        def call(self, inputs, training=None):
            return self.head(self.norm(inputs, training=training))

    model = Traced()
    model.compile("sgd", "sparse_categorical_crossentropy")
    run(model, [], epochs=1)
    for refused in (
        lambda: run(model, [tf_kit.SWA(2)]),
        lambda: tf_kit.update_bn(model, data()[0]),
    ):
        with pytest.raises(ValueError, match="batch-norm layer 'within'") as error:
            refused()
        assert one_line(error)
    model.norm.trainable, still = False, model.norm.get_weights()
    tf_kit.update_bn(model, data()[0])
    assert equal(model.norm.get_weights(), still)
    swa, seen = tf_kit.SWA(2), recorder(tf_kit)
    run(model, [swa, seen])
    assert swa.batch_norm_epoch is None
    assert_mean(model.get_weights(), seen.weights[1:])


@pytest.mark.parametrize("weighted", ["none", "others", "fit"])
def test_others_that_train_in_between_change_nothing(kit, weighted):
    """Sample weights that come, or go, in mid-fit make Keras a new train function."""
    (x, y), model, seen = data(), build(kit), recorder(kit)
    weights = np.ones(8, "float32") if weighted == "others" else None

    class Between(kit.keras.callbacks.Callback):
        def on_batch_end(self, batch, logs=None):
            if batch < 3:  # the pass ends with its last batch
                self.model.train_on_batch(3 * x[:8] + 1, y[:8], sample_weight=weights)

    swa = kit.SWA(2, "cyclic", 0.01, 0.05, 2)
    of_fit = dict.fromkeys(range(3), 1.0) if weighted == "fit" else None
    history = run(model, [swa, Between(), seen], class_weight=of_fit).history
    planned = swa.plan(4, 4, 0.1).rates.ravel()
    np.testing.assert_allclose(history["lr"], planned, rtol=5e-7)
    np.testing.assert_allclose(seen.rates, planned, rtol=5e-7)
    for before, after in zip(seen.slots[-2], seen.slots[-1]):
        np.testing.assert_array_equal(before, after)  # `iterations` among them
    assert_mean(model.get_weights(), seen.weights[1:2], skip=STATISTICS)
    assert_statistics(model.get_weights(), x)


def test_a_pass_whose_moments_are_taken_away_leaves_the_trained_weights(kit):
    if kit.is_eager:
        pytest.skip("only graph mode fetches them")

    class Clears(kit.keras.callbacks.Callback):
        def on_batch_begin(self, batch, logs=None):
            self.model.train_function.fetches = []

    model, swa, seen = build(kit), kit.SWA(2), recorder(kit)
    with pytest.warns(RuntimeWarning, match="before batch normalization could be"):
        run(model, [swa, Clears(), seen])
    assert swa.batch_norm_epoch is None
    assert equal(model.get_weights(), seen.weights[2])


def test_a_model_compiled_anew_in_mid_fit_goes_on_as_before(kit):
    """As Keras does: `fit` keeps the train function that it had when it began."""
    if kit.is_eager:
        pytest.skip("only graph mode lets Keras itself go on")

    class Compiles(kit.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.model.compile("sgd", "sparse_categorical_crossentropy")

    model = build(kit)
    run(model, [kit.SWA(2, "constant", 0.01), Compiles()])
    assert_statistics(model.get_weights(), data()[0])


def test_a_refusal_leaves_the_earlier_average_and_the_next_fit(tf_kit):
    layers = tf_kit.keras.layers
    model, swa, seen = build(tf_kit, False), tf_kit.SWA(2), recorder(tf_kit)
    run(model, [swa, seen])
    average = swa.averaged_weights
    renorm = layers.BatchNormalization(renorm=True)
    other = tf_kit.keras.Sequential([layers.Dense(4, input_shape=(FEATURES,)), renorm])
    other.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="renorm"):
        run(other, [swa])
    with pytest.raises(ValueError, match="start_epoch must be below"):
        run(model, [swa], epochs=2)
    assert equal(swa.averaged_weights, average) and swa.n_averaged == 3
    swa.restore()
    assert equal(model.get_weights(), seen.weights[-1])
    run(model, [swa, seen])
    assert_mean(model.get_weights(), seen.weights[1:])


def test_a_refusal_leaves_stand_alone_keras_usable(kit):
    model, swa = build(kit), kit.SWA(3, swa_freq=9, snapshot="cycle_end")
    with pytest.raises(ValueError, match="swa_freq must leave an epoch to be sampled"):
        run(model, [swa])
    before = model.get_weights()
    run(model, [], epochs=1)
    assert not equal(before, model.get_weights())


@pytest.mark.parametrize("epochs", [5, 6])
def test_plan_and_fit_refuse_the_same_schedules(kit, epochs):
    options = dict(swa_freq=2, snapshot="cycle_end")
    # the one sample would be the fifth epoch's, which is the pass where there are five
    model, swa = build(kit), kit.SWA(4, **options)
    if epochs == 5:
        for refused in (
            lambda: swa.plan(5, 4, 0.1, True),
            lambda: run(model, [swa], epochs=5),
        ):
            with pytest.raises(ValueError, match="the batch-norm epoch") as error:
                refused()
            assert one_line(error)
        assert swa.plan(5, 4, 0.1, False).sampled_epochs == [5]
        return
    run(model, [swa], epochs=6)
    assert swa.n_averaged == len(swa.plan(6, 4).sampled_epochs) == 1


@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch norm", "plain"])
def test_after_other_training_the_average_is_still_that_of_the_run(kit, batch_norm):
    model, swa, seen = build(kit, batch_norm), kit.SWA(2), recorder(kit)
    run(model, [swa, seen])
    average, x = model.get_weights(), data()[0]
    run(model, [], epochs=2)
    on = model.get_weights()
    rows = x if batch_norm else None
    with swa.average_applied(rows):
        np.testing.assert_allclose(model.get_weights()[0], average[0], rtol=1e-6)
        if batch_norm:
            assert_statistics(model.get_weights(), x)
    assert equal(model.get_weights(), on)
    with swa.trained_weights():
        assert equal(model.get_weights(), seen.weights[2 if batch_norm else 3])
    assert equal(model.get_weights(), on)
    swa.apply(rows)
    np.testing.assert_allclose(model.get_weights()[0], average[0], rtol=1e-6)
    swa.restore()
    assert equal(model.get_weights(), on)


def test_rows_given_to_average_applied_are_used(kit):
    model, swa, x = build(kit), kit.SWA(2), data()[0]
    run(model, [swa])
    final = model.get_weights()
    with swa.average_applied(x + 1):
        assert_statistics(model.get_weights(), x + 1)
    assert equal(model.get_weights(), final)


@pytest.mark.parametrize(
    "options",
    [
        dict(validation=(x for x in [1])),
        dict(validation=[1, 2, 3, 4]),
        dict(validation=data(), validation_rows=(x for x in [1])),
        dict(validation=data(), validation_rows=itertools.cycle([data()[0]])),
    ],
    ids=["generator", "four items", "rows of a generator", "endless rows"],
)
def test_validation_that_cannot_work_is_refused_at_once(tf_kit, options):
    with pytest.raises(ValueError, match="must be") as error:
        tf_kit.SWA(2, **options)
    assert one_line(error)


def test_validation_takes_a_list(kit):
    model, swa = build(kit, False), kit.SWA(2, validation=list(data(7, 20)))
    history = run(model, [swa], batch_size=np.int64(16)).history
    assert len(history["swa_loss"]) == 3


# The average is asked for within the pass


@pytest.mark.parametrize("hook", ["on_batch_begin", "on_batch_end"])
@pytest.mark.parametrize("name", ["average_applied", "apply"])
def test_rows_read_within_the_pass_leave_it_whole(kit, name, hook):
    model, swa, seen, x = build(kit), kit.SWA(2), recorder(kit), data()[0]
    statistics = []

    def read(batch, logs):
        if len(seen.weights) != 3 or batch != 1:  # the fourth epoch is the pass
            return
        if name == "apply":
            swa.apply(x + 1)
        with swa.average_applied(None if name == "apply" else x + 1):
            statistics.append(model.get_weights())

    reader = kit.keras.callbacks.LambdaCallback(**{hook: read})
    run(model, [swa, seen, reader])
    assert_statistics(statistics[0], x + 1)
    assert_statistics(model.get_weights(), x)
    assert_mean(model.get_weights(), seen.weights[1:3], STATISTICS)
    assert equal(seen.slots[2], seen.slots[3])


# Layers within a `tf.function`


def test_a_call_that_always_runs_as_a_graph_is_refused_by_name(tf_kit):
    from tensorflow.python.eager import function  # whose `defun` tf.contrib has

    if not tf_kit.is_eager:
        pytest.skip("only eager mode reads its code: test_eager.py runs this")
    layers = tf_kit.keras.layers

    class Norm(layers.BatchNormalization):
        @function.defun
        def call(self, inputs, training=None):
            return super(Norm, self).call(inputs, training=training)

    model, x = tf_kit.keras.Sequential([Norm(name="own"), layers.Dense(1)]), data()[0]
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="batch-norm layer 'own'") as error:
        run(model, [tf_kit.SWA(2)], data=(x, x[:, :1]))
    assert one_line(error)


# Inputs without a feature axis


@pytest.mark.parametrize("cause", ["sample_weight_mode", "target_tensors", "tf.train"])
def test_each_cause_of_the_eager_graph_function_is_named(tf_kit, cause):
    import tensorflow as tf

    if not tf_kit.is_eager:
        pytest.skip("only eager mode has it: test_eager.py runs this")
    layers = tf_kit.keras.layers
    model = tf_kit.keras.Sequential([layers.Dense(1, input_shape=(3, FEATURES))])
    x = np.ones((ROWS, 3, FEATURES), "float32")
    options = {
        "sample_weight_mode": dict(sample_weight_mode="temporal"),
        "target_tensors": dict(target_tensors=[tf_kit.keras.Input((3, 1))]),
        "tf.train": dict(optimizer=tf.compat.v1.train.GradientDescentOptimizer(0.1)),
    }[cause]
    options = dict(dict(optimizer="sgd", loss="mse"), **options)
    model.compile(**options)
    with pytest.raises(ValueError, match=cause) as error:
        run(model, [tf_kit.SWA(2)], data=(x, x[..., :1]))
    assert one_line(error)
    if cause != "target_tensors":  # Keras takes those in its graph function alone
        model.compile(run_eagerly=True, **options)
        swa = tf_kit.SWA(2)
        run(model, [swa], data=(x, x[..., :1]))
        assert swa.n_averaged == 3


# A loop of the user's


def test_a_new_callback_for_each_fit_adds_no_operation(kit):
    if kit.is_eager:
        pytest.skip("only graph mode has a graph")
    model, counts = build(kit), []
    for _ in range(3):
        run(model, [kit.SWA(2, "cyclic", 0.01, 0.05, 2)])
        graph = kit.keras.backend.get_session().graph
        counts.append(len(graph.get_operations()))
    assert counts[1] == counts[2]


def test_a_saved_model_in_the_pass(tf_kit, tmp_path):
    """A callback before SWA that saves the whole model in every epoch."""
    if not tf_kit.is_eager:
        pytest.skip("only eager mode traces the layers to save them: test_eager.py")

    class Save(tf_kit.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.save(str(tmp_path / str(epoch)), save_format="tf")

    run(build(tf_kit), [Save(), tf_kit.SWA(2)])
    assert len(list(tmp_path.iterdir())) == 4


def test_a_file_saved_in_the_pass_can_go_on(kit, tmp_path):
    path, seen = str(tmp_path / "model.h5"), recorder(kit)
    save = kit.keras.callbacks.ModelCheckpoint(path)
    run(build(kit), [save, kit.SWA(2, "constant", 0.01)])
    loaded = kit.keras.models.load_model(path)
    assert rate_of(kit, loaded) == pytest.approx(0.1)
    run(loaded, [seen], epochs=2)
    assert not equal(seen.weights[0], seen.weights[1])


def test_statistics_of_many_batches_far_from_zero(kit):
    """Of 40,000 batches of 32, and of a mean of a thousand deviations."""
    from swa.moments import Moments, merged

    generator, total = np.random.RandomState(5), None
    sums = np.zeros((2, 4))
    for _ in range(40000):
        rows = generator.randn(32, 4) + 1000
        total = merged(total, Moments(32, rows.mean(0), rows.var(0)))
        sums += [rows.sum(0) - 32000, np.square(rows - 1000).sum(0)]
    mean, square = sums / 1.28e6
    np.testing.assert_allclose(total.mean, 1000 + mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(total.variance, square - mean**2, rtol=1e-9)
    x = generator.randn(4096, FEATURES).astype("float32") + 1000
    model = kit.keras.Sequential(
        [
            kit.keras.layers.BatchNormalization(input_shape=(FEATURES,)),
            kit.keras.layers.Dense(1),
        ]
    )
    kit.update_bn(model, x)
    mean, variance = model.layers[0].get_weights()[2:]
    # a float32 holds a mean of 1000 to 3e-5, and so does each batch's
    np.testing.assert_allclose(mean, np.float64(x).mean(0), rtol=0, atol=6e-5)
    np.testing.assert_allclose(variance, np.float64(x).var(0), rtol=1e-5)
    kit.update_bn(model, x - 1000)
    mean, variance = model.layers[0].get_weights()[2:]
    np.testing.assert_allclose(mean, np.float64(x).mean(0) - 1000, rtol=0, atol=1e-6)
    np.testing.assert_allclose(variance, np.float64(x).var(0), rtol=1e-6)
