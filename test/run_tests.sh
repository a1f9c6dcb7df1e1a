#!/usr/bin/env bash
# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
#
# usage: run_tests.sh [--distributed | --distributed-if-built] [pytest's arguments]
#
# Without pytest's arguments: ruff, shellcheck, then pytest; else pytest alone. The tests
# of several ranks on hosts need Horovod: --distributed builds it at the first use,
# --distributed-if-built runs them where that has happened. Else they are skipped.
set -euo pipefail

# tests choose their devices themselves: a broken NPU is no reason not to run them
export SWA_DEVICE=cpu
# shellcheck source=test/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "${PYTHON}" "${swa_root}/test/support/run_tests.py" "$@"
