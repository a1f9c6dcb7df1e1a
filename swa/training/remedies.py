# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What helps against failures of an NPU, as published by the vendor and its users."""

# (what a failed run says, what to do): the table in docs/ascend.md has the same.
_MISSING = (
    "an operation of the graph is not in the operator list: bash test/check_npu.sh "
    "names it; source the set_env.sh of the CANN that the plug-in came with"
)
REMEDIES = (
    ("Trying to access resource", _MISSING),
    ("Container localhost does not exist", _MISSING),
    (
        "DoRunAsync Failed",
        "the cause is in the lines above it and in ~/ascend/log; often an operation "
        "of the graph is not in the operator list, which bash test/check_npu.sh names",
    ),
    (
        "ra rdev init failed",
        "the rank table's device_ip is not the card's: compare hccn_tool -i N -ip -g",
    ),
    ("EJ0001", "the last process on this card still ends: wait ten seconds, repeat"),
    (
        "memory_optimizer",
        "a core dump in memory_optimizer: repeat with --memory_optimization=unset",
    ),
    (
        "HCCL_CONNECT_TIMEOUT",
        "a slow first import on one rank: export HCCL_CONNECT_TIMEOUT=1200",
    ),
    ("HCCL_IF_BASE_PORT", "ports 60000 to 60015 must be free, or set the variable"),
)


def remedies(text):
    """Lines that tell what helps against a failure that says `text`: a list of str.

    Those that `text` has already are left out.
    """
    helps = [what for sign, what in REMEDIES if sign in text and what not in text]
    return [f"remedy: {what}" for what in helps]
