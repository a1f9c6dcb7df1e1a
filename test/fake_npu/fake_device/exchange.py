# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""HCCL between real processes: for each collective, one file from each rank.

With FAKE_NPU_HCCL, a folder that all ranks share, collectives hold the other ranks'
numbers; without it they act as if every rank held what this one holds. Ranks whose
collectives differ in kind, order or shape would wait for ever on the device; here they
end with a message.
"""

import json
import os
import time

import numpy as np

from fake_device import record

_SECONDS = {"HCCL_CONNECT_TIMEOUT": 120, "HCCL_EXEC_TIMEOUT": 600}

_count = 0  # collectives of this process so far


def size():
    """The number of ranks that the environment names."""
    return int(os.environ.get("RANK_SIZE", "1"))


def is_on():
    """Whether there are other processes to exchange with."""
    return bool(os.environ.get("FAKE_NPU_HCCL")) and size() > 1


def check_rank_table():
    """Ends the process where HCCL could not start from the rank table."""
    path = os.environ.get("RANK_TABLE_FILE", "")
    try:
        with open(path) as file:
            servers = json.load(file)["server_list"]
        ranks = sorted(int(one["rank_id"]) for s in servers for one in s["device"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        record.abort("rank table %r: %r" % (path, error))
    if ranks != list(range(size())):
        record.abort("rank table %r holds %s for %d ranks" % (path, ranks, size()))
    if "JOB_ID" not in os.environ or "RANK_ID" not in os.environ:
        record.abort("RANK_ID and JOB_ID must be set")


def all_ranks(kind, name, array):
    """The arrays that the ranks bring to the same collective, by rank."""
    global _count
    number, _count = _count, _count + 1
    rank = int(os.environ["RANK_ID"])
    told = "%s of %s %s for %s" % (kind, array.dtype, list(array.shape), name)
    record.write("exchange", number=number, what=told)
    path = _path(number, rank)
    with open(path + ".part", "wb") as file:
        np.savez(file, array=array, told=told)
    os.replace(path + ".part", path)
    found = []
    for other, path in enumerate(_arrived(number)):
        with np.load(path) as brought:
            if str(brought["told"]) != told:
                record.abort(
                    "collective %d is %s on rank %d, %s on rank %d"
                    % (number, told, rank, brought["told"], other)
                )
            found.append(brought["array"])
    if number:  # all have come to this one, so all have read the one before
        os.unlink(_path(number - 1, rank))
    return found


def _path(number, rank):
    return os.path.join(os.environ["FAKE_NPU_HCCL"], "%d.%d" % (number, rank))


def _arrived(number):
    """The paths of all ranks' files, once they are there."""
    name = "HCCL_EXEC_TIMEOUT" if number else "HCCL_CONNECT_TIMEOUT"
    seconds = float(os.environ.get(name, _SECONDS[name]))
    deadline = time.monotonic() + seconds
    paths = [_path(number, rank) for rank in range(size())]
    while True:
        missing = [rank for rank, path in enumerate(paths) if not os.path.exists(path)]
        if not missing:
            return paths
        if time.monotonic() > deadline:
            record.abort(
                "rank %s did not come to collective %d within %g s (%s)"
                % (", ".join(map(str, missing)), number, seconds, name)
            )
        time.sleep(0.001)
