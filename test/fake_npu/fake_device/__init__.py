# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""A device that is not there: what the fake npu_bridge and hccl stand on.

With test/fake_npu on PYTHONPATH, `import npu_bridge` finds the fake. It executes on the
CPU, but reads the session's options, compiles graphs and ends the process as the
vendor's adapter of the chosen release would. Environment variables:

  FAKE_NPU_ADAPTER  release: 1.1, 1.2, 1.3, 1.5, 1.6 (default), 1.7 or 1.8
  FAKE_NPU_RECORD   file that gets one JSON line for each event; {rank} in its name is
                    the rank
  FAKE_NPU_READS    how a call reads variables: by reference (default), gated (by
                    reference, but for Keras's gradients), or value
  FAKE_NPU_FLOATS   half (default): operations round to float16 where precision_mode
                    lets the device do so; or float32
  FAKE_NPU_DIVISOR  what a fused layer's variance is divided by: n-1 (default) or n
  FAKE_NPU_VARIANCE how a fused layer takes it: from deviations (default) or from
                    squares, E[x^2] - E[x]^2 in float32, which may be below zero
  FAKE_NPU_STRANDED what a call says whose host part needs a variable of the device's:
                    resource (default), container or run
  FAKE_NPU_HCCL     folder through which ranks, each a process, exchange numbers
  FAKE_NPU_DEFECT   names from settings.DEFECTS, joined by commas: breaks it on purpose
"""
