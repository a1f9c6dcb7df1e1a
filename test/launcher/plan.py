# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Which ranks run where: all that is decided before anything starts."""

import os
import re
import socket
import subprocess
from typing import Dict, List, NamedTuple, Optional

from launcher import hccn
from launcher.options import MOST_RANKS
from swa.training import files, machine, rank_table, settings
from swa.training.errors import UserError, shown, wrong
from swa.training.world import number_in

# HCCL's: the first step may have to wait for the others' compilers
CONNECT_SECONDS = "600"
GLOO_SECONDS = 120  # a rank that writes files keeps the others waiting
JOB_ID = "10087"
ONE, HCCL, HOROVOD = "one", "hccl", "horovod"


class Rank(NamedTuple):
    """One rank: where it runs, and which variables it gets."""

    number: int
    device_id: int  # its NPU, else the rank's number
    folder: str  # it runs there and has its log there
    variables: Dict[str, Optional[str]]  # beside the environment; None unsets one

    @property
    def log(self):
        return os.path.join(self.folder, f"train_{self.device_id}.log")


class Plan(NamedTuple):
    """The ranks of this machine, and what joins them with all others."""

    engine: str  # ONE, HCCL or HOROVOD
    size: int  # of all machines' ranks together
    ranks: List[Rank]
    hosts: str = ""  # horovodrun's
    table: str = ""  # path of the job's own rank table


def merged(environ, variables):
    """The environment with these variables; None unsets one."""
    both = {**environ, **variables}
    return {name: value for name, value in both.items() if value is not None}


def make(request, environ, scratch):
    """The Plan for a request.

    Args:
      request: Request.
      environ: mapping of environment variables.
      scratch: folder for the job's own rank table, outside of every output folder.

    Returns:
      Plan.

    Raises:
      UserError: with the flag or variable, the rule and the value.
    """
    if not request.has_ranks:
        return _one_device(request, environ)
    wanted = request.settings.device
    if wanted == "npu" or (wanted == "auto" and machine.npu_signs(environ)):
        return _npus(request, environ, scratch)
    return _hosts(request, environ)


def _one_device(request, environ):
    """The device that ASCEND_DEVICE_ID names."""
    device_id = settings.device_id(environ)
    variables = {
        "ASCEND_DEVICE_ID": str(device_id),
        "RANK_SIZE": "1",
        "RANK_ID": "0",
        "JOB_ID": environ.get("JOB_ID") or JOB_ID,
        "RANK_TABLE_FILE": None,  # it would start HCCL, for one device too
    }
    folder = request.settings.output_dir or settings.default_output_dir(environ)
    return Plan(ONE, 1, [Rank(0, device_id, folder, variables)])


def _ranks(request, numbers, variables):
    """The ranks with these variables, each in output/N or in N below a named folder.

    Args:
      request: Request.
      numbers: list of (rank, device id) of this machine.
      variables: dict, for all of them.

    Returns:
      List of Rank.
    """
    base = request.settings.output_dir or os.path.abspath("output")
    ranks = []
    for number, device_id in numbers:
        own = {"RANK_ID": str(number), "ASCEND_DEVICE_ID": str(device_id)}
        folder = os.path.join(base, str(device_id))
        ranks.append(Rank(number, device_id, folder, dict(own, **variables)))
    return ranks


# Ranks on NPUs


def _npus(request, environ, scratch):
    """The NPUs of this server: those of RANK_TABLE_FILE, or the first ones."""
    if request.hosts:
        raise wrong(
            "hosts is for CPUs",
            request.hosts,
            "On several servers of NPUs start this launcher on each, with one "
            "RANK_TABLE_FILE.",
        )
    own_table = ""
    if not environ.get("RANK_TABLE_FILE"):
        if request.server_id:
            raise wrong("server_id needs RANK_TABLE_FILE", request.server_id)
        own_table = os.path.join(scratch, "rank_table.json")
        files.write(own_table, _table_of_this_server(request, environ).encode())
    path = own_table or os.path.abspath(environ["RANK_TABLE_FILE"])
    devices = rank_table.read(path)
    here = _of_this_server(devices, request)
    numbers = [(device.rank, device.device_id) for device in here]
    ranks = _ranks(request, numbers, _hccl_variables(len(devices), path, environ))
    return Plan(HCCL, len(devices), ranks, table=own_table)


def _hccl_variables(size, table_path, environ):
    timeout = environ.get("HCCL_CONNECT_TIMEOUT")
    return {
        "RANK_SIZE": str(size),
        "RANK_TABLE_FILE": table_path,
        "JOB_ID": environ.get("JOB_ID") or JOB_ID,
        "HCCL_CONNECT_TIMEOUT": timeout or CONNECT_SECONDS,
        "HOROVOD_SIZE": None,
        "DEVICE_ID": None,  # the older name of ASCEND_DEVICE_ID
    }


def _table_of_this_server(request, environ):
    """A rank table of the first devices of this server: str."""
    size = request.rank_size or 8
    if size not in (2, 4, 8):
        raise wrong("rank_size must be 2, 4 or 8 on the NPUs of one server", size)
    path = environ.get("SWA_HCCN_CONF") or hccn.CONF
    addresses = hccn.addresses(path)
    missing = [str(number) for number in range(size) if number not in addresses]
    if missing:
        raise UserError(
            f"{shown(path)} must give the addresses (address_N=...) of devices 0 to "
            f"{size - 1}, got none for {', '.join(missing)}. Set them with the "
            "vendor's hccn_tool, or provide RANK_TABLE_FILE."
        )
    return hccn.rank_table("server", {n: addresses[n] for n in range(size)})


def _of_this_server(devices, request):
    """The devices of a rank table that are in this server."""
    if request.rank_size not in (None, len(devices)):
        rule = f"rank_size must be that of RANK_TABLE_FILE, {len(devices)}"
        raise wrong(rule, request.rank_size, "Leave it out.")
    names = {device.server_id for device in devices}
    here = {request.server_id} if request.server_id else names
    if len(here) > 1:
        here = names & _names_of_this_machine()
    if len(here & names) != 1:
        rule = f"server_id must be one of RANK_TABLE_FILE's, {', '.join(sorted(names))}"
        raise wrong(rule, request.server_id)
    return [device for device in devices if device.server_id in here]


def _names_of_this_machine():
    """This machine's name and addresses."""
    names = {socket.gethostname()}
    try:
        hostname = ["hostname", "-I"]
        names.update(subprocess.check_output(hostname, text=True, timeout=10).split())
    except (OSError, subprocess.SubprocessError):
        pass
    return names


# Ranks on hosts


def _hosts(request, environ):
    """The processes of this host, or of those that the user named."""
    if request.server_id:
        raise wrong("server_id is for NPUs", request.server_id)
    hosts = request.hosts or f"localhost:{request.rank_size or 8}"
    size = _size_of(hosts)
    if request.rank_size not in (None, size):
        rule = f"rank_size must be the sum of hosts' processes, {size}"
        raise wrong(rule, request.rank_size, "Leave it out.")
    numbers = [(number, number) for number in range(size)]
    ranks = _ranks(request, numbers, _horovod_variables(size, environ))
    return Plan(HOROVOD, size, ranks, hosts=hosts)


def _horovod_variables(size, environ):
    name = "HOROVOD_GLOO_TIMEOUT_SECONDS"
    timeout = number_in(environ, name, GLOO_SECONDS, least=1, most=10**6)
    return {
        "HOROVOD_SIZE": str(size),
        "HOROVOD_RANK": "0",  # of the check; horovodrun gives each rank its own
        name: str(timeout),
        "RANK_ID": None,
        "RANK_SIZE": None,
        "RANK_TABLE_FILE": None,
    }


def _size_of(hosts):
    """The number of processes of `host:processes,...`."""
    host = "[A-Za-z0-9._-]+:([1-9][0-9]{0,3})"
    matches = [re.fullmatch(host, part) for part in hosts.split(",")]
    if not all(matches):
        raise wrong("hosts must be host:processes,..., such as a:4,b:4", hosts)
    size = sum(int(match.group(1)) for match in matches)
    if size > MOST_RANKS:
        raise wrong(f"hosts must have at most {MOST_RANKS} processes in all", size)
    return size
