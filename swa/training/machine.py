# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Where a run trains: a look at the machine, and what is chosen.

Without an NPU, TensorFlow trains on the host and says nothing. The adapter ends the
process if a value is wrong. So this module checks the machine before the first step,
and every problem becomes one line.
"""

import glob
import os
from typing import NamedTuple, Optional, Tuple

from swa.training import (
    files,
    flags,
    npu,
    npu_options,
    output,
    ranks_hccl,
    ranks_horovod,
)
from swa.training.errors import UserError, wrong
from swa.training.ranks import Ranks
from swa.training.settings import device_id
from swa.training.world import World

# Signs of an NPU: its device files, and CANN's parts in the folders it installs to.
DEVICE_FILES = ("/dev/davinci*", "/dev/vdavinci*")
CANN_FOLDERS = ("/usr/local/Ascend",)
CANN_VARIABLES = ("ASCEND_HOME", "ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
_CANN_PARTS = ("ascend-toolkit", "nnae", "fwkacllib", "tfplugin", "opp", "driver")
DEFAULT_OPP_PATH = "/usr/local/Ascend/opp"
OPERATOR_LIST = "framework/built-in/tensorflow/npu_supported_ops.json"


class Device(NamedTuple):
    """The device of one run, and the ranks that it trains with."""

    name: str  # "npu" or "cpu"
    reason: str = ""  # one line that names the device and says why
    notes: Tuple[str, ...] = ()  # one line each, to be shown as warnings
    world: World = World()  # the ranks that train together
    adapter: Optional[npu_options.Adapter] = None  # of an NPU, a row of ADAPTERS

    @property
    def drops_last_batch(self):
        """bool: whether a short last batch is left out, as a graph has one shape."""
        return self.name == "npu"

    def join(self):
        """Waits for the other ranks; returns the Ranks, which are to be closed.

        Raises:
          UserError: what joins the ranks is not installed, or a rank did not come in
            time; the message names it.
        """
        if self.world.engine == "horovod":
            return ranks_horovod.HorovodRanks(self.world)
        if self.world.engine == "hccl":
            return ranks_hccl.HcclRanks(self.world, self.adapter)
        return Ranks()


def choose(config, environ):
    """Chooses the device, and checks all that the NPU would not forgive.

    Leaves nothing behind: directories are tried, not made.

    Args:
      config: a checked Config.
      environ: mapping of environment variables.

    Returns:
      Device.

    Raises:
      UserError: an NPU is asked for and absent, or is there and cannot be used as
        asked. `device="auto"` never takes the CPU where there are signs of an NPU.
    """
    device_id(environ)  # it names the output directory as well
    if config.device == "cpu":
        return _cpu(config, environ, "as --device=cpu asks")
    signs = npu_signs(environ)
    if signs:
        return _npu(config, environ, signs)
    if config.device == "auto":
        return _cpu(config, environ, "found no NPU, no CANN and no npu_bridge")
    raise UserError(
        f"device={config.device} needs an Ascend NPU, got no /dev/davinci*, "
        "no CANN and no npu_bridge. Use --device=cpu, or --device=auto."
    )


def check_batches(config, device, num_samples):
    """Checks that every rank gets equally many rows of every batch.

    Args:
      config: a checked Config.
      device: Device.
      num_samples: int, training rows.

    Raises:
      UserError: with the flag, the rule and the value given.
    """
    size = device.world.size
    if config.batch_size % size:
        raise wrong(
            f"batch_size, the rows of all {size} ranks in a step, must divide by "
            f"{size}",
            config.batch_size,
        )
    last = 0 if device.drops_last_batch else num_samples % config.batch_size
    if last % size:
        raise UserError(
            f"the last batch of an epoch must divide by the {size} ranks, got {last} "
            f"rows ({num_samples} samples, batch_size {config.batch_size}). "
            "Choose another batch_size or number of samples."
        )


def npu_signs(environ):
    """What speaks for an NPU on this machine: a list, empty where nothing does."""
    signs = [path for pattern in DEVICE_FILES for path in sorted(glob.glob(pattern))]
    folders = [environ[name] for name in CANN_VARIABLES if environ.get(name)]
    folders += [os.path.join(environ.get("HOME", "/"), "Ascend"), *CANN_FOLDERS]
    signs += filter(_has_cann, folders)
    return signs + ["npu_bridge"] * npu.is_installed()


def _has_cann(folder):
    return any(os.path.isdir(os.path.join(folder, part)) for part in _CANN_PARTS)


def _cpu(config, environ, why):
    """The CPU, with a note on the flags that do nothing there."""
    names = [name for name in flags.names_of("device") if name in config.typed]
    idle = ", ".join(f"--{name}" for name in names if name != "device")
    notes = (f"only an NPU honours {idle}: no effect here",) if idle else ()
    world = ranks_horovod.read_world(environ)
    return Device("cpu", f"device cpu: {why}{_place(world)}", notes, world=world)


def _npu(config, environ, signs):
    """The NPU, after all checks of the environment and the installation."""
    names = [name for name in ("ASCEND_DEVICE_ID", "DEVICE_ID") if environ.get(name)]
    number = device_id(environ, *names[:1])
    if ranks_horovod.read_world(environ).size > 1:
        raise UserError(
            f"HOROVOD_SIZE must be 1 on an NPU, got {environ['HOROVOD_SIZE']}: HCCL "
            "joins NPUs (RANK_SIZE). Use test/train_full_8p.sh, or --device=cpu."
        )
    world = ranks_hccl.read_world(environ)
    _check_files(config, environ)
    npu.import_adapter(signs[0])
    adapter, is_guessed = npu.release()
    npu_options.check_adapter(config, adapter, world.size)
    notes = []
    if is_guessed:
        notes.append(f"npu_bridge hides its release: taken for r{adapter.version}")
    if not names:
        notes.append("ASCEND_DEVICE_ID is not set: device 0 is used")
    why = "as --device=npu asks" if config.device == "npu" else f"found {signs[0]}"
    reason = f"device npu: {why}; device id {number}, adapter {adapter}{_place(world)}"
    return Device("npu", reason, tuple(notes), world, adapter)


def _place(world):
    """What the reason says of the ranks."""
    return f"; rank {world.rank} of {world.size}" if world.size > 1 else ""


def _check_files(config, environ):
    """Checks the files that the adapter needs, and those that the flags name."""
    # without its list of operators it leaves every one on the host
    opp_path = environ.get("ASCEND_OPP_PATH", DEFAULT_OPP_PATH)
    if not os.access(os.path.join(opp_path, OPERATOR_LIST), os.R_OK):
        raise wrong(
            f"ASCEND_OPP_PATH must hold a readable {OPERATOR_LIST}",
            opp_path,
            "Source CANN's set_env.sh: without it, training runs on the host.",
        )
    for path in npu_options.folders(config):
        output.check_writable("data_save_path", path)
    if config.modify_mixlist:  # the adapter hands it on unread
        files.read_json("modify_mixlist", config.modify_mixlist)
