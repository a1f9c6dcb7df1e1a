# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The layers of a model, and which batch-norm layers SWA can re-estimate."""

from tensorflow.python.eager.def_function import Function  # of tf.function

__all__ = [
    "batch_norms_of",
    "check_supported",
    "check_training_mode",
    "parts_of",
    "statistics_of",
]

_BELOW = "_layers layers layer forward_layer backward_layer cell cells".split()
# where both Kerases define batch normalization, and the methods that make its moments
_KERAS = "keras.layers.normalization"
_MOMENTS = {"_moments", "_fused_batch_norm", "_assign_moving_average"}


def parts_of(model, trained=False):
    """A model, its layers and what they hold, however deep.

    Args:
      model: a model or a layer.
      trained: bool, whether frozen parts, and what is in them, are left out.

    Returns:
      List of the parts, each once, in their order.
    """
    parts, waiting = {}, [model]
    while waiting:
        part = waiting.pop()
        if id(part) in parts or trained and not part.trainable:
            continue
        parts[id(part)] = part  # dictionaries keep their order
        for name in _BELOW:
            below = getattr(part, name, ())
            below = below if isinstance(below, (list, tuple)) else [below]
            # the user's own attribute of this name can hold anything
            waiting.extend(item for item in below if hasattr(item, "trainable"))
    return list(parts.values())[::-1]


def batch_norms_of(model, trained=False):
    """Every layer with batch-norm statistics.

    Args:
      model: a model or a layer.
      trained: bool, whether frozen layers are left out.

    Returns:
      List of layers, each once, in their order.
    """
    names, parts = ("moving_mean", "moving_variance"), parts_of(model, trained)
    return [part for part in parts if all(hasattr(part, name) for name in names)]


def statistics_of(layer):
    """The two variables that a batch-norm layer keeps of its inputs."""
    return layer.moving_mean, layer.moving_variance


def check_supported(layer):
    """Refuses a layer whose statistics SWA cannot re-estimate.

    Keras's own BatchNormalization is supported. A subclass is if it leaves the moments
    to Keras: each `call` of its own must hand inputs on to another `call`, such as
    `super().call`, and must name it.

    Args:
      layer: a batch-norm layer that is trained.

    Raises:
      ValueError: a layer of another kind, or with an option that makes it one.
    """
    for option in ("renorm", "virtual_batch_size", "adjustment"):
        if getattr(layer, option, None):
            raise ValueError(
                f"batch-norm layer {layer.name!r} must not use {option}: its "
                f"statistics cannot be re-estimated for averaged weights."
            )
    if not _leaves_moments_to_keras(type(layer)):
        raise ValueError(
            f"batch-norm layer {layer.name!r} must be Keras's BatchNormalization, or "
            f"a subclass that hands its inputs on to super().call(), got "
            f"{type(layer).__name__}, whose moments SWA does not know. Use such a "
            f"layer, or freeze this one before compile()."
        )


def check_training_mode(model, layers, runs_training):
    """Refuses batch norms of a model that cannot run in training mode.

    Args:
      model: the model.
      layers: list of its batch-norm layers that are trained.
      runs_training: bool, whether the model can run in training mode as it is now.

    Raises:
      ValueError: there are such layers, and it cannot.
    """
    if layers and not runs_training:
        raise ValueError(
            f"model must run batch normalization in training mode, got "
            f"{model.name!r}, whose {layers[0].name!r} does not. Call predict() "
            f"once if it is subclassed, fix no learning phase, or freeze it."
        )


def _leaves_moments_to_keras(kind):
    """Whether a class reaches the `call` of Keras's batch normalization unchanged."""
    for base in kind.__mro__:
        own = vars(base)
        if "call" in own and base.__module__.endswith(_KERAS):
            return True
        if not _MOMENTS.isdisjoint(own) or "call" in own and not _names_call(own):
            return False
    return False


def _names_call(own):
    """Whether the `call` among a class's own attributes names another `call`."""
    call = own["call"]
    call = call.python_function if isinstance(call, Function) else call
    return "call" in getattr(getattr(call, "__code__", None), "co_names", ())
