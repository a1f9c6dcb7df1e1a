# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Which ranks run where: all that is decided before anything starts."""

import os
import re
import socket
import subprocess
from typing import Dict, List, NamedTuple, Optional

from launcher import hccn
from swa.training import machine, rank_table, settings
from swa.training.errors import UserError, shown

# HCCL's: the first step may have to wait for the others' compilers
CONNECT_SECONDS = "600"
GLOO_SECONDS = "120"  # a rank that writes files keeps the others waiting
MOST_RANKS = 256
ONE, HCCL, HOROVOD = "one", "hccl", "horovod"


class Rank(NamedTuple):
    """One rank: where it runs, and what it is told."""

    number: int
    folder: str  # it runs there and has its log there
    name: int  # of the folder: its device on an NPU, else the rank
    variables: Dict[str, Optional[str]]  # beside the environment; None unsets one

    @property
    def log(self):
        return os.path.join(self.folder, f"train_{self.name}.log")


class Plan(NamedTuple):
    """The ranks of this machine, and what joins them with all others."""

    engine: str  # ONE, HCCL or HOROVOD
    size: int
    ranks: List[Rank]
    output_dir: Optional[str]  # as the user named it, absolute
    hosts: Optional[str] = None  # horovodrun's
    table: Optional[str] = None  # a rank table to be written


def merged(environ, variables):
    """The environment with these variables; None unsets one."""
    both = dict(environ, **{k: v for k, v in variables.items() if v is not None})
    return {name: both[name] for name in both if variables.get(name, "") is not None}


def of_one(environ, output_dir):
    """The Plan of one device, which ASCEND_DEVICE_ID names.

    Args:
      environ: mapping of environment variables.
      output_dir: absolute path that the user named, or None.

    Raises:
      UserError: the variable is no device id.
    """
    number = settings.device_id(environ)
    variables = {
        "ASCEND_DEVICE_ID": str(number),
        "RANK_SIZE": "1",
        "RANK_ID": "0",
        "JOB_ID": environ.get("JOB_ID") or "10087",
        "RANK_TABLE_FILE": None,  # it would start HCCL, for one device too
    }
    folder = output_dir or settings.default_output_dir(environ)
    return Plan(ONE, 1, [Rank(0, folder, number, variables)], output_dir)


def of_ranks(options, asked_device, environ, output_dir):
    """The Plan of several ranks.

    Args:
      options: Options.
      asked_device: str, the flag --device.
      environ: mapping of environment variables.
      output_dir: absolute path that the user named, or None.

    Raises:
      UserError: with the option or variable, the rule and the value given.
    """
    size = _size(options.rank_size)
    is_npu = asked_device == "npu" or (
        asked_device != "cpu" and machine.npu_signs(environ)
    )
    if is_npu and options.hosts:
        raise UserError(
            f"hosts is for CPUs, got {shown(options.hosts)}: on several servers of "
            "NPUs start this launcher on each, with one RANK_TABLE_FILE."
        )
    if is_npu:
        return _of_npus(options, environ, size, output_dir)
    if options.server_id:
        raise UserError(f"server_id is for NPUs, got {shown(options.server_id)}.")
    return _of_hosts(options, environ, size, output_dir)


def _size(text):
    if text is None:
        return None
    if not re.fullmatch("[1-9][0-9]{0,3}", text) or int(text) > MOST_RANKS:
        raise UserError(
            f"rank_size must be a number of processes from 1 to {MOST_RANKS}, got "
            f"{shown(text)}."
        )
    return int(text)


def _folder(output_dir, name):
    """output/N; a folder that the user named has the ranks' below it."""
    return os.path.join(output_dir or os.path.abspath("output"), str(name))


def _of_npus(options, environ, size, output_dir):
    path = environ.get("RANK_TABLE_FILE")
    if path:
        path = os.path.abspath(path)
        devices = rank_table.read(path)
        if size not in (None, len(devices)):
            raise UserError(
                f"rank_size must be that of RANK_TABLE_FILE, {len(devices)}, got "
                f"{size}. Leave it out."
            )
        here = _this_server(devices, options.server_id)
    else:
        here = devices = _first_devices(environ, size or 8)
    shared = {
        "RANK_SIZE": str(len(devices)),
        "RANK_TABLE_FILE": path or "",  # the job's own: see `Plan.table`
        "JOB_ID": environ.get("JOB_ID") or "10087",
        "HCCL_CONNECT_TIMEOUT": environ.get("HCCL_CONNECT_TIMEOUT") or CONNECT_SECONDS,
        "HOROVOD_SIZE": None,
        "DEVICE_ID": None,  # the older name of the next one
    }
    ranks = []
    for one in here:
        own = {"RANK_ID": str(one.rank), "ASCEND_DEVICE_ID": str(one.device_id)}
        folder = _folder(output_dir, one.device_id)
        ranks.append(Rank(one.rank, folder, one.device_id, dict(shared, **own)))
    table = None
    if not path:
        ips = {one.device_id: one.device_ip for one in here}
        table = hccn.rank_table("server", ips)
    return Plan(HCCL, len(devices), ranks, output_dir, table=table)


def _first_devices(environ, size):
    """The first devices of this server, with their addresses."""
    if size not in (2, 4, 8):
        raise UserError(
            f"rank_size must be 2, 4 or 8 on the NPUs of one server, got {size}."
        )
    path = environ.get("SWA_HCCN_CONF") or hccn.CONF
    found = hccn.addresses(path)
    missing = [str(number) for number in range(size) if number not in found]
    if missing:
        raise UserError(
            f"{shown(path)} must give the addresses (address_N=...) of devices 0 to "
            f"{size - 1}, got none for {', '.join(missing)}. Set them with the "
            "vendor's hccn_tool, or provide RANK_TABLE_FILE."
        )
    return [rank_table.Device(n, "server", n, found[n]) for n in range(size)]


def _this_server(devices, server_id):
    """The devices of the server that this machine is in a rank table."""
    names = list(dict.fromkeys(one.server_id for one in devices))
    if server_id is None and len(names) == 1:
        server_id = names[0]
    if server_id is None:
        own = _own_addresses()
        mine = [name for name in names if name in own]
        server_id = mine[0] if len(mine) == 1 else None
    if server_id not in names:
        raise UserError(
            f"server_id must be one of RANK_TABLE_FILE's, {', '.join(names)}, got "
            f"{shown(server_id)}."
        )
    return [one for one in devices if one.server_id == server_id]


def _own_addresses():
    """This machine's name and addresses."""
    found = {socket.gethostname()}
    try:
        told = subprocess.run(["hostname", "-I"], stdout=subprocess.PIPE, timeout=10)
        found.update(told.stdout.decode().split())
    except (OSError, subprocess.SubprocessError):
        pass
    return found


def _of_hosts(options, environ, size, output_dir):
    hosts = options.hosts or f"localhost:{size or 8}"
    parts = [
        re.fullmatch("([A-Za-z0-9._-]+):([1-9][0-9]{0,3})", one)
        for one in hosts.split(",")
    ]
    if not all(parts):
        raise UserError(
            f"hosts must be host:processes, joined by commas, such as a:4,b:4, got "
            f"{shown(hosts)}."
        )
    total = sum(int(part.group(2)) for part in parts)
    if total > MOST_RANKS:
        raise UserError(
            f"hosts must have at most {MOST_RANKS} processes in all, got {total}."
        )
    if size not in (None, total):
        raise UserError(
            f"rank_size must be the sum of hosts' processes, {total}, got {size}. "
            "Leave it out."
        )
    shared = {
        "HOROVOD_SIZE": str(total),
        "HOROVOD_GLOO_TIMEOUT_SECONDS": environ.get("HOROVOD_GLOO_TIMEOUT_SECONDS")
        or GLOO_SECONDS,
        "RANK_SIZE": None,
        "RANK_TABLE_FILE": None,
    }
    ranks = []
    for rank in range(total):
        own = {"HOROVOD_RANK": str(rank), "ASCEND_DEVICE_ID": str(rank)}
        folder = _folder(output_dir, rank)
        ranks.append(Rank(rank, folder, rank, dict(shared, **own)))
    return Plan(HOROVOD, total, ranks, output_dir, hosts=hosts)
