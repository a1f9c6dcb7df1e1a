# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Holders of a loss scale."""

from fake_device import settings


class FixedLossScaleManager:
    """A fixed scale of at least 1; r1.6 adds enable_overflow_check."""

    def __init__(self, loss_scale, **options):
        known = {"enable_overflow_check"} if settings.since("1.6") else set()
        if not set(options) <= known:
            raise TypeError("unexpected arguments %s" % sorted(options))
        if loss_scale < 1:
            raise ValueError("loss_scale must be at least 1, got %r" % loss_scale)


class ExponentialUpdateLossScaleManager:
    """A scale that grows and shrinks."""

    def __init__(
        self,
        init_loss_scale,
        incr_every_n_steps,
        decr_every_n_nan_or_inf=2,
        incr_ratio=2,
        decr_ratio=0.8,
    ):
        self.loss_scale = init_loss_scale
