# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The table that tells HCCL which rank runs on which device: JSON, version 1.0."""

from typing import NamedTuple

from swa.training import files
from swa.training.errors import UserError


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
    table = files.read_json("RANK_TABLE_FILE", path)
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
        raise UserError(
            "RANK_TABLE_FILE must hold the rank_id 0 to N - 1, each once, "
            f"got {ranks} in {path}."
        )
    return devices


def _devices(table):
    if table["version"] != "1.0":
        raise ValueError(table["version"])
    rows = []
    for server in table["server_list"]:
        for device in server["device"]:
            texts = (device["rank_id"], device["device_id"], device["device_ip"])
            if not all(isinstance(text, str) for text in texts):
                raise TypeError(texts)
            rank, device_id, ip = texts
            rows.append(Device(int(rank), server["server_id"], int(device_id), ip))
    return sorted(rows)
