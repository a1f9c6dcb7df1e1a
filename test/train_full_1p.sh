#!/usr/bin/env bash
# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
#
# Trains on one device for accuracy: the whole run.
set -euo pipefail

# shellcheck source=test/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

train_1p acc 100 "$@"
