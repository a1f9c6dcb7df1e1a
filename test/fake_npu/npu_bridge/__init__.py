# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""A fake of the vendor's npu_bridge, for tests without an NPU: see fake_device."""

import atexit
import importlib.abc
import importlib.util
import os
import sys

from fake_device import runtime, settings

__version__ = "v1.15.0"  # TensorFlow's: the same in every release


class _ReleaseLoader(importlib.abc.SourceLoader):
    """Loads npu_init.py as far as the chosen release has it."""

    marker = "# since "

    def get_filename(self, fullname):
        return os.path.join(os.path.dirname(__file__), "npu_init.py")

    def get_data(self, path):
        with open(path) as file:
            head, *sections = file.read().split(self.marker)
        kept = [part for part in sections if settings.since(part.split()[0])]
        return self.marker.join([head] + kept).encode()


class _ReleaseFinder(importlib.abc.MetaPathFinder):
    """Puts _ReleaseLoader before the usual one."""

    def find_spec(self, fullname, path, target=None):
        if fullname != "npu_bridge.npu_init":
            return None
        return importlib.util.spec_from_loader(fullname, _ReleaseLoader())


if settings.has_defect("library"):
    print("libge_runner.so: cannot open shared object file: No such file or directory")
    raise ImportError("cannot import name 'npu_bridge_handle'")

sys.meta_path.insert(0, _ReleaseFinder())
runtime.install()

from npu_bridge.hccl import hccl_ops  # noqa: E402, F401
from npu_bridge.helper.helper import npu_bridge_handle  # noqa: E402, F401

if settings.RELEASE in ("1.3", "1.5"):
    from npu_bridge.estimator.npu import npu_decorator

    npu_decorator.replace()

if settings.since("1.5"):
    from npu_bridge.estimator.npu.npu_plugin import npu_close

    atexit.register(npu_close)
