#!/usr/bin/env bash
# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
#
# Trains on eight devices, or as --rank_size says, for speed: the same with fewer epochs.
set -euo pipefail

# shellcheck source=test/ranks.sh
source "$(dirname "${BASH_SOURCE[0]}")/ranks.sh"

train_ranks perf 40 "$@"
