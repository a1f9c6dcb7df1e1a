# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The layers of a model, those of nested models and wrappers among them."""


def parts_of(model):
    """A model, its layers and theirs, however deep, each once, in their order."""
    found, seen, rest = [], set(), [model]
    while rest:
        item = rest.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        found.append(item)
        for name in ("_layers", "layers", "layer", "forward_layer", "backward_layer"):
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
