# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Where a run trains: the choice of device, and its session.

The only module that imports npu_bridge.

TensorFlow keeps silent where the NPU cannot be had and trains on the host instead, and
the adapter ends the process where it dislikes what it finds. So the machine is looked
at here, before the first step, and every surprise becomes one line.
"""

import ast
import contextlib
import glob
import importlib
import importlib.util
import io
import json
import os
import re
import tempfile
from typing import Any, Callable, NamedTuple, Optional, Tuple

from swa.training import npu_options
from swa.training.config import checked
from swa.training.errors import UserError
from swa.training.flags import Config
from swa.training.world import World, read_world

# Signs of an NPU: its device files, and CANN's parts in the folders it installs to.
DEVICE_FILES = ("/dev/davinci*", "/dev/vdavinci*")
CANN_FOLDERS = ("/usr/local/Ascend",)
CANN_VARIABLES = ("ASCEND_HOME", "ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
_CANN_PARTS = ("ascend-toolkit", "nnae", "fwkacllib", "tfplugin", "opp", "driver")
DEFAULT_OPP_PATH = "/usr/local/Ascend/opp"
OPERATOR_LIST = "framework/built-in/tensorflow/npu_supported_ops.json"

_NPU_FLAGS = (
    "precision_mode",
    "modify_mixlist",
    "over_dump",
    "data_dump_flag",
    "data_dump_step",
    "profiling",
    "data_save_path",
)
_OLDEST_SUPPORTED = "1.2"


class Choice(NamedTuple):
    """The device of one run."""

    device: str  # "npu" or "cpu"
    reason: str  # one line that names the device and says why
    adapter: Optional[str] = None  # release of the NPU's adapter, a row of ADAPTERS
    notes: Tuple[str, ...] = ()  # one line each, to be shown as warnings
    world: World = World()  # the ranks that train together


class Collectives(NamedTuple):
    """What the adapter has for ranks."""

    allreduce: Callable[..., Any]  # (tensor, reduction, fusion) -> tensor
    wrap_optimizer: Optional[Callable[[Any], Any]]  # None before r1.6


def choose_device(config, environ):
    """Chooses the device, and checks all that the NPU would not forgive.

    Leaves nothing behind: directories are tried, not made.

    Args:
      config: a checked Config.
      environ: mapping of environment variables.

    Returns:
      Choice.

    Raises:
      UserError: an NPU is asked for and absent, or is there and cannot be used as
        asked. `device="auto"` never takes the CPU where there are signs of an NPU.
    """
    if environ.get("ASCEND_DEVICE_ID"):  # it names the output directory as well
        _check_device_id(environ, "ASCEND_DEVICE_ID")
    if config.device == "cpu":
        return _cpu(config, environ, "as --device=cpu asks")
    signs = npu_signs(environ)
    if config.device == "auto" and not signs:
        return _cpu(config, environ, "found no NPU, no CANN and no npu_bridge")
    if not signs:
        raise UserError(
            "device=npu needs an Ascend NPU, found no /dev/davinci*, no CANN and no "
            "npu_bridge. Use --device=cpu, or --device=auto."
        )
    return _npu(config, environ, signs)


def npu_signs(environ):
    """What speaks for an NPU on this machine: a list, empty where nothing does."""
    signs = [path for pattern in DEVICE_FILES for path in sorted(glob.glob(pattern))]
    folders = [environ[name] for name in CANN_VARIABLES if environ.get(name)]
    folders += [os.path.join(environ.get("HOME", "/"), "Ascend"), *CANN_FOLDERS]
    signs += [
        folder
        for folder in folders
        if any(os.path.isdir(os.path.join(folder, part)) for part in _CANN_PARTS)
    ]
    spec = importlib.util.find_spec("npu_bridge")
    if spec is not None and spec.origin not in (None, "namespace"):  # no bare folder
        signs.append("npu_bridge")
    return signs


def session_config(config, choice):
    """The session's settings, from the configuration alone.

    Args:
      config: a checked Config.
      choice: Choice.

    Returns:
      tf.ConfigProto; for an NPU with exactly one NpuOptimizer entry, for a second one
      would put precision_mode back to its default.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

    proto = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    if choice.device == "cpu":
        if choice.world.size > 1:  # or each rank would take every core
            threads = max(1, _cores() // choice.world.local_size)
            proto.intra_op_parallelism_threads = threads
            proto.inter_op_parallelism_threads = threads
        return proto
    optimizer = proto.graph_options.optimizer_options
    optimizer.global_jit_level = tf.compat.v1.OptimizerOptions.OFF
    rewriter = proto.graph_options.rewrite_options
    # Fused host kernels are no operators of the device.
    rewriter.remapping = RewriterConfig.OFF
    # As the vendor sets it from r1.6 on; the field is TensorFlow's, so older adapters
    # take it too. It is a MemOptType, whose 2 means MANUAL: the Toggle called OFF, also
    # 2, therefore asks for annotated swapping only, and ON, 1, for no optimisation.
    rewriter.memory_optimization = RewriterConfig.OFF
    custom_op = rewriter.custom_optimizers.add()
    custom_op.name = "NpuOptimizer"
    for key, field, value in npu_options.wanted(config):
        typed = value.encode() if field == "s" else value
        setattr(custom_op.parameter_map[key], field, typed)
    return proto


def describe_options(proto):
    """The custom optimizers' maps as text, one `key.field = value` a line.

    It walks the entries that exist: reading `parameter_map[key]` would insert one.
    """
    lines = []
    for optimizer in proto.graph_options.rewrite_options.custom_optimizers:
        lines.append(f"{optimizer.name}:")
        for key in sorted(optimizer.parameter_map):
            entry = optimizer.parameter_map[key]
            field = entry.WhichOneof("value")
            value = getattr(entry, field)
            shown = value.decode() if isinstance(value, bytes) else value
            lines.append(f"  {key}.{field} = {shown}")
    return "\n".join(lines)


@contextlib.contextmanager
def open_session(config, choice):
    """Opens Keras's session in the default graph, and closes it whatever happens.

    To be entered before anything initialises a variable, since Keras would otherwise
    open a session of its own, on the host. Afterwards Keras starts afresh, so that it
    can be entered again; but precision_mode and the profiler's options of an NPU stay
    what the process's first run made them.

    Args:
      config: a checked Config.
      choice: Choice.

    Yields:
      The tf.Session.

    Raises:
      UserError: a directory for dumps or profiles cannot be made.
    """
    import tensorflow as tf

    if choice.device == "npu":
        _import_adapter()  # registers its graph passes: before the first session.run
        _make_directories(npu_options.directories(config))
    proto = session_config(config, choice)
    if choice.device == "npu" and config.verbose >= 2:
        print(describe_options(proto))
    session = tf.compat.v1.Session(config=proto)
    try:
        tf.compat.v1.keras.backend.set_session(session)
        yield session
    finally:
        session.close()
        tf.compat.v1.keras.backend.clear_session()


def keep_dtype_scope(choice):
    """A context in which new operations keep their dtype under every precision mode.

    Sums over many batches or epochs lose their point in float16. On the CPU, and on an
    adapter without such a scope, it does nothing.
    """
    if choice.device == "npu" and npu_options.find_adapter(choice.adapter).keeps_dtype:
        from npu_bridge.estimator.npu.npu_scope import keep_dtype_scope as scope

        return scope()
    return contextlib.nullcontext()


def collectives(choice):
    """What this release of the adapter has to join ranks: Collectives."""
    from npu_bridge.hccl import hccl_ops

    if not npu_options.find_adapter(choice.adapter).wraps_optimizer:
        return Collectives(hccl_ops.allreduce, None)
    from npu_bridge.estimator.npu import npu_optimizer

    wrap = npu_optimizer.npu_distributed_optimizer_wrapper
    return Collectives(hccl_ops.allreduce, wrap)


def _cpu(config, environ, why):
    """The CPU, with a note on the flags that do nothing there."""
    defaults = checked(Config())
    idle = [
        f"--{flag}"
        for flag in _NPU_FLAGS
        if getattr(config, flag) != getattr(defaults, flag)
    ]
    notes = (f"only an NPU honours {', '.join(idle)}: no effect here",) if idle else ()
    world = read_world(environ, "cpu")
    return Choice("cpu", f"device cpu: {why}{_told(world)}", notes=notes, world=world)


def _npu(config, environ, signs):
    """The NPU, once the environment and the installation are found in order."""
    names = [name for name in ("ASCEND_DEVICE_ID", "DEVICE_ID") if name in environ]
    device_id = _check_device_id(environ, names[0]) if names else 0
    world = read_world(environ, "npu")
    _check_rank_table(environ, world.size)
    _check_operator_list(environ)
    for path in npu_options.directories(config):
        _check_writable(path)
    _check_mixlist(config)
    _import_adapter(signs)
    adapter = npu_options.newest_adapter(_npu_init_names())
    notes = []
    if adapter is None:
        adapter = npu_options.find_adapter(_OLDEST_SUPPORTED)
        notes.append(f"npu_bridge hides its release: taken for r{_OLDEST_SUPPORTED}")
    try:
        npu_options.check_adapter(config, adapter, world.size)
    except ValueError as error:
        raise UserError(str(error)) from error
    if not names:
        notes.append("ASCEND_DEVICE_ID is not set: device 0 is used")
    if not adapter.keeps_dtype:
        notes.append(
            f"adapter r{adapter.version} has no keep_dtype_scope: averages and batch "
            "norm sums follow precision_mode"
        )
    why = "as --device=npu asks" if config.device == "npu" else f"found {signs[0]}"
    reason = (
        f"device npu: {why}; device id {device_id}, "
        f"adapter r{adapter.version} (CANN {adapter.cann}){_told(world)}"
    )
    return Choice("npu", reason, adapter.version, tuple(notes), world)


def _told(world):
    """What the reason says of the ranks."""
    return f"; rank {world.rank} of {world.size}" if world.size > 1 else ""


def _cores():
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_device_id(environ, name):
    """Returns the id; an adapter that cannot read it ends the process."""
    if not re.fullmatch("[0-9]+", environ[name]):
        raise UserError(f"{name} must be an integer >= 0, got {environ[name]!r}.")
    return int(environ[name])


def _check_rank_table(environ, rank_size):
    """With a rank table the adapter starts HCCL even for a single card."""
    table = environ.get("RANK_TABLE_FILE")
    if table and rank_size == 1:
        raise UserError(
            "RANK_TABLE_FILE must be unset for a single card (RANK_SIZE 1), "
            f"got {table!r}. Unset it, or HCCL would start."
        )


def _check_operator_list(environ):
    """Without its list of operators the adapter leaves every one on the host."""
    opp_path = environ.get("ASCEND_OPP_PATH", DEFAULT_OPP_PATH)
    path = os.path.join(opp_path, OPERATOR_LIST)
    if not os.access(path, os.R_OK):
        raise UserError(
            f"ASCEND_OPP_PATH must hold a readable {OPERATOR_LIST}, got {opp_path!r}. "
            "Source CANN's set_env.sh: without it, training runs on the host."
        )


def _check_writable(path):
    """Whether `path` is, or could become, a directory to write in; leaves nothing."""
    existing = path
    while not os.path.exists(existing) and existing != os.path.dirname(existing):
        existing = os.path.dirname(existing)
    try:
        # os.access says yes to root, even in /proc and on some network file systems
        os.rmdir(tempfile.mkdtemp(dir=existing))
    except OSError as error:
        raise UserError(
            f"data_save_path needs a directory to write {path!r} in, "
            f"and {existing!r} is none: {error.strerror}."
        ) from error


def _make_directories(paths):
    """Makes the directories that the adapter and the profiler expect to find."""
    for path in paths:
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"data_save_path needs {path!r}, which cannot be made: "
                f"{error.strerror}."
            ) from error
        _check_writable(path)


def _check_mixlist(config):
    """The adapter hands the file on unread."""
    if not config.modify_mixlist:
        return
    try:
        with open(config.modify_mixlist, encoding="utf-8") as file:
            json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(
            "modify_mixlist must be a JSON file, "
            f"got {config.modify_mixlist!r}: {error}."
        ) from error


def _import_adapter(signs=("npu_bridge",)):
    """Imports npu_bridge.

    Where its shared library does not load, npu_bridge prints the cause and then raises
    an ImportError that does not name it; so what is printed is kept for the message.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            importlib.import_module("npu_bridge")
    except Exception as error:  # whatever it is, this installation cannot be used
        cause = " ".join(f"{printed.getvalue()} {error}".split())
        raise UserError(
            f"npu_bridge must be importable where there is an NPU ({signs[0]}), got "
            f"{type(error).__name__}: {cause}. Source CANN's set_env.sh, or use "
            "--device=cpu."
        ) from error
    print(printed.getvalue(), end="")


def _npu_init_names():
    """The names in npu_bridge's npu_init, read without running it.

    From r1.9 on, importing that module puts an NpuOptimizer entry into every later
    session of the process.
    """
    spec = importlib.util.find_spec("npu_bridge.npu_init")
    source = spec.loader.get_source(spec.name) if spec is not None else None
    names = set()
    for node in ast.walk(ast.parse(source or "")):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
            names.update(f"{node.name}({arg.arg})" for arg in node.args.args)
    return names
