#!/usr/bin/env bash
# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
#
# Tries on one NPU what this project claims about NPUs, in about ten minutes; prints a
# table and writes it to check_npu.txt, to be sent back. Options: --help.
set -euo pipefail

export SWA_DEVICE=npu
# shellcheck source=test/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# one card, as in the launchers: with a rank table the adapter would start HCCL
unset RANK_TABLE_FILE
export RANK_SIZE=1 RANK_ID=0 JOB_ID="${JOB_ID:-10087}"
export ASCEND_DEVICE_ID="${ASCEND_DEVICE_ID:-0}"

exec "${PYTHON}" "$(dirname "${BASH_SOURCE[0]}")/check_npu.py" "$@"
