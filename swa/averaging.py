# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The running mean of a model's weights, kept in variables beside them.

    mean = mean + (weights - mean) / n_averaged

No weight leaves the device: folding, exchanging and setting the mean are each
one call of a function that was built once.
"""

import functools
import operator

import numpy as np
import tensorflow as tf


def mean_dtype(dtype):
    """The dtype in which values of `dtype` are averaged: at least float32."""
    return tf.float32 if dtype.size < 4 else dtype


class Average:
    """The mean of the weights, and a place for the trained ones meanwhile.

    Args:
      weights: list of the model's variables, in `get_weights()` order. Those
        that are not floating point are kept, not averaged.
      runtime: where variables live and functions run (`swa.runtime`).
    """

    def __init__(self, weights, runtime):
        self._runtime = runtime
        self._all = list(weights)
        self._weights = [w for w in self._all if _dtype(w).is_floating]
        shapes = [tuple(w.shape.as_list()) for w in self._weights]
        dtypes = [_dtype(w) for w in self._weights]
        # one layout for both: the mean in at least float32, the trained exact
        self._mean = [
            runtime.variable("mean", shape, mean_dtype(dtype))
            for shape, dtype in zip(shapes, dtypes)
        ]
        self._trained = [
            runtime.variable("trained", shape, dtype)
            for shape, dtype in zip(shapes, dtypes)
        ]
        self._functions = {}  # by name
        self._fold = runtime.function(self._fold_if_finite, tf.float32)
        self._clear = runtime.function(self._clear_mean)

    def prepare(self):
        """Makes what training needs, so that no later epoch makes operations."""
        self._built("keep", lambda: tf.group(self.keep_trained()))
        self._built("apply", lambda: tf.group(self.set_mean()))

    def clear(self):
        """Forgets the mean."""
        self._clear()

    def fold(self, n_averaged):
        """Folds the model's weights into the mean of `n_averaged` sets.

        Returns:
          False if they hold NaN or Inf: the mean is then unchanged.
        """
        n_after = n_averaged + 1
        if self._fold(n_after):
            return True
        # The sum that tells may overflow although every weight is finite.
        if not all(np.all(np.isfinite(w)) for w in self._read(self._weights)):
            return False
        self._built("fold", self._fold_always, tf.float32)(n_after)
        return True

    def keep_trained(self):
        """Operations that copy the model's weights aside."""
        return _assign_all(self._trained, [_read(w) for w in self._weights])

    def set_mean(self):
        """Operations that make the mean the model's weights."""
        return _assign_all(
            self._weights,
            [tf.cast(_read(m), _dtype(w)) for m, w in zip(self._mean, self._weights)],
        )

    def keep(self):
        """Copies the trained weights aside."""
        self._functions["keep"]()

    def apply(self):
        """Makes the mean the model's weights; `keep` comes first."""
        self._functions["apply"]()

    def restore(self):
        """Gives the model the weights that were copied aside."""
        self._built(
            "restore",
            lambda: tf.group(
                _assign_all(self._weights, [_read(t) for t in self._trained])
            ),
        )()

    def exchange(self):
        """Exchanges the model's weights and those copied aside."""
        self._built("exchange", self._exchange)()

    def arrays(self):
        """The mean as numpy arrays, in `get_weights()` order and dtypes."""
        means = iter(self._read(self._mean))
        others = iter(self._read([w for w in self._all if not _dtype(w).is_floating]))
        return [
            next(means).astype(_dtype(w).as_numpy_dtype)
            if _dtype(w).is_floating
            else next(others)
            for w in self._all
        ]

    def exact_arrays(self):
        """The mean as it is kept: numpy arrays of at least float32."""
        return self._read(self._mean)

    def check_arrays(self, arrays):
        """Raises ValueError unless `arrays` can become the mean, by name."""
        if len(arrays) != len(self._mean):
            raise ValueError(
                f"state must hold {len(self._mean)} averaged weights for this "
                f"model, got {len(arrays)}."
            )
        for array, mean, weight in zip(arrays, self._mean, self._weights):
            expected = tuple(mean.shape.as_list())
            if np.shape(array) != expected:
                raise ValueError(
                    f"state must hold an average of shape {expected} for weight "
                    f"{weight.name!r}, got {np.shape(array)}."
                )

    def load_arrays(self, arrays):
        """Makes `arrays`, as `exact_arrays` gave them, the mean."""
        self.check_arrays(arrays)
        load = self._built(
            "load",
            lambda *values: tf.group(_assign_all(self._mean, values)),
            *[m.dtype.base_dtype for m in self._mean],
        )
        load(*arrays)

    def _built(self, name, body, *dtypes):
        """The function `body`, built at its first use."""
        if name not in self._functions:
            self._functions[name] = self._runtime.function(body, *dtypes)
        return self._functions[name]

    def _read(self, variables):
        return self._runtime.read(variables)

    def _clear_mean(self):
        return tf.group(
            _assign_all(self._mean, [tf.zeros_like(_read(m)) for m in self._mean])
        )

    def _fold_always(self, n_after):
        updates = []
        for mean, weight in zip(self._mean, self._weights):
            # one weight after the other: memory for one step, used again by the next
            with tf.control_dependencies(updates[-1:]):
                step = tf.cast(_read(weight), mean.dtype) - _read(mean)
                step = step / tf.cast(n_after, mean.dtype)
                updates.append(mean.assign_add(step, read_value=False))
        return tf.group(updates)

    def _fold_if_finite(self, n_after):
        # A sum is NaN or Inf if a term is, and costs one pass and no memory.
        sums = [
            tf.cast(tf.reduce_sum(tf.cast(_read(w), mean_dtype(_dtype(w)))), tf.float32)
            for w in self._weights
        ]
        total = functools.reduce(operator.add, sums)
        is_finite = tf.equal(total - total, 0.0)

        def fold():
            with tf.control_dependencies([self._fold_always(n_after)]):
                return tf.identity(is_finite)

        return tf.cond(is_finite, fold, lambda: tf.identity(is_finite))

    def _exchange(self):
        trained = [tf.identity(_read(t)) for t in self._trained]
        current = [tf.identity(_read(w)) for w in self._weights]
        with tf.control_dependencies(trained + current):
            return tf.group(
                _assign_all(self._trained, current)
                + _assign_all(self._weights, trained)
            )


def _dtype(variable):
    return tf.as_dtype(variable.dtype).base_dtype


def _read(variable):
    return variable.read_value()


def _assign_all(variables, values):
    return [
        variable.assign(value, read_value=False)
        for variable, value in zip(variables, values)
    ]
