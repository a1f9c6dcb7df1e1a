# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Horovod's names for one process, for examples that run where it is not built."""

import sys
import types

import numpy as np


class Horovod(types.ModuleType):
    """`horovod.tensorflow.keras` of one rank; keeps the shapes of what is summed."""

    Sum = object()

    def __init__(self, name):
        super().__init__(name)
        self.summed = []

    def init(self):
        pass

    def size(self):
        return 1

    def rank(self):
        return 0

    def allreduce(self, array, op):
        assert op is self.Sum
        self.summed.append(np.shape(array))
        return array

    def DistributedOptimizer(self, optimizer):
        return optimizer


def install(monkeypatch, keras):
    """Makes `import horovod.tensorflow.keras` give a Horovod, which it returns."""
    names = "horovod", "horovod.tensorflow", "horovod.tensorflow.keras"
    package, middle, hvd = map(Horovod, names)
    package.tensorflow, middle.keras = middle, hvd
    hvd.callbacks = types.SimpleNamespace(
        BroadcastGlobalVariablesCallback=lambda root: keras.callbacks.Callback()
    )
    for name, module in zip(names, (package, middle, hvd)):
        monkeypatch.setitem(sys.modules, name, module)
    return hvd
