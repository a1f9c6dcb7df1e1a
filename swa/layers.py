# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The layers of a model, those of nested models and wrappers among them."""

_BELOW = "_layers layers layer forward_layer backward_layer cell cells".split()


def parts_of(model, trained=False):
    """A model, its layers and theirs, however deep, each once, in their order.

    Args:
      trained: bool, whether frozen ones, and what is in them, are left out.
    """
    found, rest = {}, [model]
    while rest:
        item = rest.pop()
        if id(item) in found or trained and not getattr(item, "trainable", True):
            continue
        found[id(item)] = item  # dictionaries keep their order
        for below in [getattr(item, name, None) or () for name in _BELOW]:
            rest.extend(below if isinstance(below, (list, tuple)) else [below])
    return list(found.values())[::-1]


def batch_norms_of(model, trained=False):
    """Every batch-norm layer of a model, or those that are not frozen, each once."""
    names, parts = ("moving_mean", "moving_variance"), parts_of(model, trained)
    return [part for part in parts if all(hasattr(part, name) for name in names)]


def statistics_of(layer):
    """The two variables that a batch-norm layer keeps of its inputs."""
    return layer.moving_mean, layer.moving_variance


def check_supported(layer):
    """Raises ValueError for a layer whose statistics are of another kind."""
    for option in ("renorm", "virtual_batch_size", "adjustment"):
        if getattr(layer, option, None):
            raise ValueError(
                f"batch-norm layer {layer.name!r} must not use {option}: its "
                f"statistics cannot be re-estimated for averaged weights."
            )
