# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The graph engine, up and down."""

from fake_device import record, settings

if settings.since("1.2"):

    def npu_resource_init(graph_run_mode=1, **options):
        """Brings the engine up."""
        record.write("resource_init")

    def npu_resource_shutdown():
        """Takes it down."""
        record.write("resource_shutdown")


if settings.since("1.3"):

    def npu_close():
        """Takes it down at the process's end."""
        record.write("npu_close")
