# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The layers of a model, and which batch-norm layers SWA can re-estimate."""

import re
import warnings

from tensorflow.python.eager.def_function import Function  # of tf.function

__all__ = [
    "batch_norms_of",
    "check_supported",
    "check_training_mode",
    "parts_of",
    "statistics_of",
    "warn_of_unknown_statistics",
]

# attributes in which a layer keeps others
_BELOW = "_layers layers layer forward_layer backward_layer cell cells".split()
# the module in which both Kerases define batch normalization
_BATCH_NORM_MODULE = "keras.layers.normalization"
# its methods that compute the moments
_MOMENT_METHODS = {"_moments", "_fused_batch_norm", "_assign_moving_average"}
# the name of a variable that holds statistics of the inputs
_STATISTIC = re.compile(r"(^|[/_])(moving|running)_[^/]*$")


def parts_of(model, only_trainable=False):
    """A model, its layers and what they hold, however deep.

    Args:
      model: a model or a layer.
      only_trainable: bool, whether frozen parts, and what is in them, are left out.

    Returns:
      List of the parts, each once, what a part holds before the part.
    """
    parts, waiting = {}, [model]
    while waiting:
        part = waiting.pop()
        if id(part) in parts or only_trainable and not part.trainable:
            continue
        parts[id(part)] = part  # dictionaries keep their order
        for name in _BELOW:
            below = getattr(part, name, ())
            below = below if isinstance(below, (list, tuple)) else [below]
            # the user's own attribute of this name can hold anything
            waiting.extend(item for item in below if hasattr(item, "trainable"))
    return list(parts.values())[::-1]


def batch_norms_of(model, only_trainable=False):
    """Every layer with batch-norm statistics.

    Args:
      model: a model or a layer.
      only_trainable: bool, whether frozen layers are left out.

    Returns:
      List of layers, each once, in their order.
    """
    return [
        part
        for part in parts_of(model, only_trainable)
        if hasattr(part, "moving_mean") and hasattr(part, "moving_variance")
    ]


def statistics_of(layer):
    """The two variables that a batch-norm layer keeps of its inputs."""
    return layer.moving_mean, layer.moving_variance


def warn_of_unknown_statistics(model):
    """Warns of statistics that SWA averages, but cannot re-estimate.

    They are variables called `moving_*` or `running_*` of trained layers with a rule of
    their own, such as batch renormalization or a batch norm in a loaded SavedModel.

    Args:
      model: a built model.
    """
    known = {id(weight) for layer in batch_norms_of(model) for weight in layer.weights}
    names = [
        repr(variable.name)
        for part in parts_of(model, only_trainable=True)
        for variable in getattr(part, "_non_trainable_weights", ())
        if id(variable) not in known and _STATISTIC.search(variable.name)
    ]
    if names:
        warnings.warn(
            f"SWA: {', '.join(names)} cannot be re-estimated for averaged weights, "
            f"because their layer is not Keras's BatchNormalization. Freeze it, or "
            f"evaluate the average before you use it.",
            RuntimeWarning,
            stacklevel=3,
        )


def check_supported(layer):
    """Refuses a layer whose statistics SWA cannot re-estimate.

    Keras's own BatchNormalization is supported. A subclass is if it leaves the moments
    to Keras: each `call` of its own must hand inputs on to another `call`, such as
    `super().call`, and must name it.

    Args:
      layer: a batch-norm layer that is trained.

    Raises:
      ValueError: a layer of another kind, or with an option that changes its moments.
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
    """Refuses a model whose batch norms cannot run in training mode.

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
            f"{model.name!r}, whose {layers[0].name!r} does not. If the model is "
            f"subclassed, call predict() once. Else fix no learning phase, or freeze "
            f"the layer."
        )


def _leaves_moments_to_keras(kind):
    """Whether Keras's own code computes the moments of a class's layers."""
    for base in kind.__mro__:
        own = vars(base)
        if "call" in own and base.__module__.endswith(_BATCH_NORM_MODULE):
            return True
        if not _MOMENT_METHODS.isdisjoint(own):
            return False
        if "call" in own and not _names_call(own):
            return False
    return False


def _names_call(own):
    """Whether the `call` among a class's own attributes names another `call`."""
    call = own["call"]
    call = call.python_function if isinstance(call, Function) else call
    return "call" in getattr(getattr(call, "__code__", None), "co_names", ())
