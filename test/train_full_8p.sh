#!/usr/bin/env bash
# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
#
# Trains on eight devices, or as --rank_size says, for accuracy: the whole run.
if [ -z "${BASH_VERSION:-}" ]; then
  printf '%s: error: this is a bash script. Run: bash %s\n' "$(basename "$0")" "$0" >&2
  exit 2
fi
set -euo pipefail

# shellcheck source=test/launcher/common.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/launcher/common.sh"

train acc 8 100 "$@"
