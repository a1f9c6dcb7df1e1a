# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The table that tells HCCL which rank runs on which device: JSON, version 1.0."""

import json
import re
from typing import NamedTuple

from swa.training.errors import UserError, reason

HCCN_CONF = "/etc/hccn.conf"  # the vendor's: the devices' own network addresses
_ADDRESS = re.compile(r"\s*address_([0-9]+)\s*=\s*([0-9a-fA-F.:]+)\s*")


class Device(NamedTuple):
    """One row of the table."""

    rank: int
    server_id: str
    device_id: int
    device_ip: str


def read(path):
    """The devices of a rank table, by rank.

    Args:
      path: of the file.

    Returns:
      List of Device, whose ranks are 0, 1, 2, ...

    Raises:
      UserError: no file, no JSON, or not what HCCL takes.
    """
    try:
        with open(path, encoding="utf-8") as file:
            table = json.load(file)
    except (OSError, ValueError) as error:
        rule = "RANK_TABLE_FILE must be a readable JSON file"
        raise UserError(f"{rule}, got {path}: {reason(error)}.") from None
    try:
        devices = _devices(table)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(
            "RANK_TABLE_FILE must be a rank table of version 1.0, whose server_list "
            "holds server_id and device (device_id, device_ip, rank_id), all of them "
            f"strings, got {path}."
        ) from None
    ranks = [device.rank for device in devices]
    if not ranks or ranks != list(range(len(ranks))):
        rule = "RANK_TABLE_FILE must hold the rank_id 0 to N - 1, each once"
        raise UserError(f"{rule}, got {ranks} in {path}.")
    return devices


def of_server(devices, rank):
    """The devices of the server that a rank is on."""
    return [one for one in devices if one.server_id == devices[rank].server_id]


def addresses(path):
    """{device_id: address} from the vendor's hccn.conf.

    Raises:
      UserError: no such file, saying what else to provide.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = [_ADDRESS.fullmatch(line) for line in file.read().splitlines()]
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise UserError(
            "several ranks need RANK_TABLE_FILE (a rank table of version 1.0), or "
            f"{path} with the devices' addresses to write one from, got neither: "
            f"{path}: {told}. The vendor's hccn_tool sets the addresses."
        ) from None
    return {int(match.group(1)): match.group(2) for match in found if match}


def text(server_id, device_ips):
    """The rank table of one server.

    Args:
      server_id: str, any name.
      device_ips: dict of addresses by device id; ranks are given in its order.

    Returns:
      str, JSON; all values are strings, as HCCL wants them.
    """
    devices = [
        {"device_id": str(device), "device_ip": ip, "rank_id": str(rank)}
        for rank, (device, ip) in enumerate(device_ips.items())
    ]
    table = {
        "version": "1.0",
        "status": "completed",
        "server_count": "1",
        "server_list": [{"server_id": server_id, "device": devices}],
    }
    return json.dumps(table, indent=2) + "\n"


def _devices(table):
    if table["version"] != "1.0":
        raise ValueError(table["version"])
    rows = []
    for server in table["server_list"]:
        for device in server["device"]:
            texts = (device["rank_id"], device["device_id"], device["device_ip"])
            if not all(isinstance(one, str) for one in texts):
                raise TypeError(texts)
            rank, device_id, ip = texts
            rows.append(Device(int(rank), server["server_id"], int(device_id), ip))
    return sorted(rows)
