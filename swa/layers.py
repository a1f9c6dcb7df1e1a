# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The layers of a model, those of nested models and wrappers among them."""

__all__ = ["batch_norms_of", "check_supported", "parts_of"]

_BELOW = (
    "_layers",
    "layers",
    "layer",
    "forward_layer",
    "backward_layer",
    "cell",
    "cells",
)
_OTHER_STATISTICS = ("renorm", "virtual_batch_size", "adjustment")


def parts_of(model):
    """A model, its layers and theirs, however deep, each once, in their order."""
    found, seen, rest = [], set(), [model]
    while rest:
        item = rest.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        found.append(item)
        for name in _BELOW:
            below = getattr(item, name, None) or ()
            rest.extend(below if isinstance(below, (list, tuple)) else [below])
    return found[::-1]


def batch_norms_of(model):
    """Every batch-norm layer of a model, however deep, each once."""
    return [
        part
        for part in parts_of(model)
        if hasattr(part, "moving_mean") and hasattr(part, "moving_variance")
    ]


def check_supported(layer):
    """Raises ValueError for a layer whose statistics are of another kind."""
    for option in _OTHER_STATISTICS:
        if getattr(layer, option, None):
            raise ValueError(
                f"batch-norm layer {layer.name!r} must not use {option}: its "
                f"statistics cannot be re-estimated for averaged weights."
            )
