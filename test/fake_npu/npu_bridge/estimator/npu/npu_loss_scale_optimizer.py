# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The optimizer with a loss scale; the fake does not scale."""

from npu_bridge.estimator.npu.npu_optimizer import NPUOptimizer


class NPULossScaleOptimizer(NPUOptimizer):
    """The inner optimizer as it is."""

    def __init__(self, opt, loss_scale_manager, is_distributed=False):
        super().__init__(opt, loss_scale_manager, is_distributed)
