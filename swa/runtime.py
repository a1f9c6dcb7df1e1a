# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Where the callback's variables live and its functions run.

A function is Python that makes TensorFlow operations. In a graph it is run
once, and each call is one `session.run`; in eager mode each call runs it.
"""

import contextlib

import tensorflow as tf


class GraphRuntime:
    """Variables and operations in Keras's graph, run in Keras's session.

    Args:
      get_session: function that returns Keras's session.
      scope: function that returns a context manager to make operations in, or
        None (an NPU adapter's keep-dtype scope, for example).
    """

    def __init__(self, get_session, scope=None):
        self._get_session = get_session
        self._scope = scope or contextlib.suppress
        self._uninitialised = []
        self.graph = get_session().graph

    def variable(self, name, shape, dtype):
        """A variable of zeros, known to this runtime alone."""
        with self.building():
            variable = tf.compat.v1.Variable(
                lambda: tf.zeros(shape, dtype),
                trainable=False,
                collections=[],  # a user's Saver must not look for it
                use_resource=True,
                name=name,
            )
        self._uninitialised.append(variable.initializer)
        return variable

    @contextlib.contextmanager
    def building(self):
        """Where operations are made: outside of all that surrounds the call."""
        with self.graph.as_default(), tf.control_dependencies(None):
            with tf.name_scope("swa"), self._scope():
                yield

    def function(self, body, *dtypes):
        """Makes the operations of `body`; its arguments are scalars or arrays."""
        with self.building():
            feeds = [tf.compat.v1.placeholder(dtype) for dtype in dtypes]
            fetch = body(*feeds)

        def call(*values):
            return self.session().run(fetch, dict(zip(feeds, values)))

        return call

    def session(self):
        """Keras's session, with every variable of this runtime initialised."""
        session = self._get_session()
        if self._uninitialised:
            session.run(self._uninitialised)
            self._uninitialised = []
        return session

    def read(self, variables):
        """The values as numpy arrays, in one call."""
        return self.session().run(list(variables))


class EagerRuntime:
    """Variables and operations of eager mode."""

    graph = None

    def __init__(self, scope=None):
        self._scope = scope or contextlib.suppress

    def variable(self, name, shape, dtype):
        """A variable of zeros."""
        with tf.init_scope():
            return tf.Variable(tf.zeros(shape, dtype), trainable=False, name=name)

    def function(self, body, *dtypes):
        """A function of numbers or arrays that runs `body` at each call."""

        def call(*values):
            with tf.init_scope(), self._scope():
                result = body(
                    *[tf.constant(v, dtype) for v, dtype in zip(values, dtypes)]
                )
                return None if result is None else result.numpy()

        return call

    def read(self, variables):
        """The values as numpy arrays."""
        return [variable.numpy() for variable in variables]


def of(keras, scope=None):
    """The runtime in which a binding's Keras (`swa.core.Keras`) works now."""
    if keras.is_eager():
        return EagerRuntime(scope)
    return GraphRuntime(keras.backend.get_session, scope)
