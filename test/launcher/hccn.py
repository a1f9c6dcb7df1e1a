# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The addresses of this server's NPUs, and the rank table made from them."""

import json
import re

from swa.training.errors import UserError, reason

CONF = "/etc/hccn.conf"  # the vendor's: the devices' own network addresses
_ADDRESS = re.compile(r"\s*address_([0-9]+)\s*=\s*([0-9a-fA-F.:]+)\s*")


def addresses(path):
    """{device_id: address} from the vendor's hccn.conf.

    Raises:
      UserError: no such file, saying what else to provide.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = [_ADDRESS.fullmatch(line) for line in file.read().splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(
            "several ranks need RANK_TABLE_FILE (a rank table of version 1.0), or "
            f"{path} with the devices' addresses to write one from, got neither: "
            f"{path}: {reason(error)}. The vendor's hccn_tool sets the addresses."
        ) from None
    return {int(match.group(1)): match.group(2) for match in found if match}


def rank_table(server_id, device_ips):
    """The rank table of one server, version 1.0.

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
    servers = [{"server_id": server_id, "device": devices}]
    table = {
        "version": "1.0",
        "status": "completed",
        "server_count": "1",
        "server_list": servers,
    }
    return json.dumps(table, indent=2) + "\n"
