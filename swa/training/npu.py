# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The adapter, npu_bridge: the only module that imports it."""

import ast
import contextlib
import importlib
import importlib.util
import io

from swa.training import npu_options
from swa.training.errors import UserError, shortened

_OLDEST_SUPPORTED = npu_options.ADAPTERS[1]
_LONGEST_CAUSE = 150  # characters


def is_installed():
    """bool: whether there is a package npu_bridge, which may be broken."""
    spec = importlib.util.find_spec("npu_bridge")
    # a bare folder of that name has no origin
    return spec is not None and spec.origin not in (None, "namespace")


def import_adapter(sign="npu_bridge"):
    """Imports npu_bridge, which registers its graph passes.

    Where its shared library does not load, npu_bridge prints the cause and then raises
    an ImportError that does not name it; so what is printed is kept for the message.

    Args:
      sign: str, what speaks for an NPU, for the message.

    Raises:
      UserError: with the cause; this installation cannot be used.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), _keras_as_it_was():
            importlib.import_module("npu_bridge")
    except Exception as error:  # whatever it is
        cause = " ".join(f"{printed.getvalue()} {error}".split())
        raise UserError(
            f"npu_bridge must be importable where there is an NPU ({sign}), got "
            f"{type(error).__name__}: {shortened(cause, _LONGEST_CAUSE)}. "
            "Source CANN's set_env.sh, or use --device=cpu."
        ) from error
    print(printed.getvalue(), end="")


def release():
    """The adapter's release, and whether it had to be guessed.

    The names in npu_init tell it, because `npu_bridge.__version__` is "v1.15.0"
    (TensorFlow's) in every release.

    Returns:
      (row of ADAPTERS, bool).
    """
    names, adapters = _npu_init_names(), npu_options.ADAPTERS[::-1]
    newest = next((row for row in adapters if row.probe in names), None)
    return newest or _OLDEST_SUPPORTED, newest is None


def collectives(adapter):
    """What a release of the adapter has to join ranks.

    Args:
      adapter: row of ADAPTERS.

    Returns:
      (allreduce: function of tensor, reduction and fusion that returns a tensor;
      function that wraps an optimizer, None before r1.6).
    """
    from npu_bridge.hccl import hccl_ops

    if not adapter.wraps_optimizer:
        return hccl_ops.allreduce, None
    from npu_bridge.estimator.npu import npu_optimizer

    return hccl_ops.allreduce, npu_optimizer.npu_distributed_optimizer_wrapper


@contextlib.contextmanager
def _keras_as_it_was():
    """Puts Keras's function that initialises variables back after an import.

    Releases 1.3 and 1.5 replace it. With several ranks every session would get a
    broadcast, also the session of the host, which has no kernel for it.
    """
    from tensorflow.python.keras import backend

    before = backend._initialize_variables
    try:
        yield
    finally:
        backend._initialize_variables = before


def _npu_init_names():
    """The names in npu_bridge's npu_init, read without running it.

    From r1.9 on, importing that module puts an NpuOptimizer entry into every later
    session of the process.
    """
    spec = importlib.util.find_spec("npu_bridge.npu_init")
    source = spec.loader.get_source(spec.name) if spec is not None else ""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.alias):  # of an import
            names.add(node.asname or node.name)
        elif isinstance(node, ast.FunctionDef):
            names |= {node.name, *(f"{node.name}({arg.arg})" for arg in node.args.args)}
    return names
