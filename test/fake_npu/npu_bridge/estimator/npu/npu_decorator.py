# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the import of r1.3 and r1.5 puts in the place of a function of Keras."""

from npu_bridge.hccl import hccl_ops
from tensorflow.python.keras import backend

_keras_initialize_variables = backend._initialize_variables


def _initialize_variables(session):
    """Keras's; then rank 0's values for all, in whatever session that is."""
    variables = [
        variable
        for variable in backend._get_variables(backend.get_graph())
        if not getattr(variable, "_keras_initialized", False)
    ]
    _keras_initialize_variables(session)
    if variables and hccl_ops.rank_size() > 1:
        sent = hccl_ops.broadcast([variable.value() for variable in variables], 0)
        session.run([one.assign(value) for one, value in zip(variables, sent)])


def replace():
    """Puts it there."""
    backend._initialize_variables = _initialize_variables
