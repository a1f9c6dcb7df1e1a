# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Which release the fake is, and in what it is broken."""

import os

RELEASES = ("1.1", "1.2", "1.3", "1.5", "1.6", "1.7", "1.8")
DEFECTS = {
    "library": "the shared library does not load",
    "host": "every operation stays on the host",
    "recompiles": "every call compiles its graph again",
    "no_over_dump": "overflow dumps leave no file",
    "no_data_dump": "data dumps leave no file",
    "no_profile": "the profiler leaves no file",
    "wrong_numbers": "fetched floats are a fifth too large",
    "lost_inputs": "features, but not labels, fed to a callable arrive as zeros",
    "slow": "every call takes a twentieth of a second longer",
    "lost_writes": "what is fed to an assignment outside training does not arrive",
    "exchange": "of weights put in and exchanged for others, the first ones stay",
    "stale_reads": "a variable that was fetched once is fetched as it was then",
    "noisy_reads": "variables are off in a bit, up and down by turns",
    "half_moments": "the moments of fused layers are float16",
    "wrong_step": "gradients are a tenth too large",
    "leak": "every call keeps four megabytes",
}


def _chosen(variable, *values):
    """What an environment variable says; by default the first of its values."""
    value = os.environ.get(variable, values[0])
    if value not in values:
        raise ValueError(f"{variable} must be one of {values}, got {value!r}.")
    return value


RELEASE = _chosen("FAKE_NPU_ADAPTER", "1.6", *RELEASES)
READS = _chosen("FAKE_NPU_READS", "reference", "gated", "value")
FLOATS = _chosen("FAKE_NPU_FLOATS", "half", "float32")
DIVISOR = _chosen("FAKE_NPU_DIVISOR", "n-1", "n")
VARIANCE = _chosen("FAKE_NPU_VARIANCE", "deviations", "squares")
STRANDED = _chosen("FAKE_NPU_STRANDED", "resource", "container", "run")

_broken = set(filter(None, os.environ.get("FAKE_NPU_DEFECT", "").split(",")))
if not _broken <= set(DEFECTS):
    raise ValueError(f"FAKE_NPU_DEFECT takes {sorted(DEFECTS)}, got {sorted(_broken)}.")


def as_numbers(release):
    """Releases in the order of their numbers."""
    return tuple(int(part) for part in release.split("."))


def since(release):
    """Whether the chosen release is this one or a newer one."""
    return as_numbers(RELEASE) >= as_numbers(release)


def has_defect(name):
    """Whether the fake is broken in this point."""
    return name in _broken
