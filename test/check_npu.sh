#!/usr/bin/env bash
# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
#
# Tries on one NPU what this project claims about NPUs, in about ten minutes; prints a
# table and writes it to check_npu.txt, for an issue of the repository. Options: --help.
set -euo pipefail
unset CDPATH

print_help() {
  cat <<HELP
usage: bash $0 [--flag=value] ...

Tries on one NPU, the one that ASCEND_DEVICE_ID names (default 0), what this project
claims about NPUs; takes about ten minutes.

    --output                   file for the table, default is check_npu.txt
    --only                     checks by commas, default is all
    --num_samples              training samples, default is 131072
    --batch_size               samples per batch, default is 16384
    --train_epochs             epochs to train, default is 40
    -h/--help                  show help message
HELP
}

for argument in "$@"; do
  case "${argument}" in
    -h | --h | --help)
      print_help
      exit 0
      ;;
  esac
done

export SWA_DEVICE=npu
test_dir="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
# shellcheck source=test/env.sh
source "${test_dir}/env.sh"

# one card, as in the launchers: with a rank table the adapter would start HCCL
unset RANK_TABLE_FILE
export RANK_SIZE=1 RANK_ID=0 JOB_ID="${JOB_ID:-10087}"
export ASCEND_DEVICE_ID="${ASCEND_DEVICE_ID:-0}"

exec "${PYTHON}" "${test_dir}/check_npu.py" "$@"
