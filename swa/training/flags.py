# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The command line: each flag is defined here, once, with absl.

The train script and the launchers read these definitions. They need absl alone, so
that `--help` does not wait for TensorFlow.
"""

import os
from collections import namedtuple

from absl import flags
from absl.flags import (
    DEFINE,
    DEFINE_alias,
    DEFINE_boolean,
    DEFINE_enum,
    DEFINE_float,
    DEFINE_integer,
    DEFINE_string,
)

from swa.training import console
from swa.training.errors import UserError, shown, wrong

FLAGS = flags.FlagValues()

_MILLION = 10**6
_INT32 = 2**31 - 1
_LOWEST_RATE, _HIGHEST_RATE = 1e-37, 1e38  # float32 holds them
_LONGEST_NAME = 100  # characters; absl recurses over them to suggest another flag
_OF_ABSL = ("flagfile", "undefok", "")  # what absl itself takes, and "--"


class _RateParser(flags.FloatParser):
    """A number, or "auto"."""

    def __init__(self, lower_bound, upper_bound):
        super().__init__(lower_bound, upper_bound)
        self.syntactic_help = f"'auto' or {self.syntactic_help}"

    def parse(self, argument):
        return argument if argument == "auto" else super().parse(argument)


def _group(title):
    """Arguments of a DEFINE function that put the flag into a group of the help."""
    return {"flag_values": FLAGS, "module_name": title}


_TRAINING = _group("training")
_SWA = _group("SWA")
_MODEL = _group("model and data")
_DEVICE = _group("device")
_OUTPUT = _group("output")
_ZOO = _group("zoo")

DEFINE_integer("train_epochs", 100, "epochs to train", 3, _MILLION, **_TRAINING)
DEFINE_integer(
    "batch_size",
    16384,
    "samples per step, of all cards together",
    1,
    _INT32,
    **_TRAINING,
)
DEFINE_float(
    "learning_rate",
    0.1,
    "SGD's learning rate",
    _LOWEST_RATE,
    _HIGHEST_RATE,
    **_TRAINING,
)
DEFINE_float("momentum", 0.0, "SGD's momentum", 0, 0.999999, **_TRAINING)
DEFINE_integer(
    "seed", 2, "of data, initial weights and order of rows", 0, 2**32 - 1, **_TRAINING
)

DEFINE_integer(
    "start_epoch",
    None,
    "first epoch averaged, counted from one; three quarters of train_epochs",
    2,
    _MILLION,
    **_SWA,
)
DEFINE_enum(
    "lr_schedule",
    "cyclic",
    ["manual", "constant", "cyclic"],
    "how the rate falls while weights are averaged",
    **_SWA,
)
_RATE = _RateParser(_LOWEST_RATE, _HIGHEST_RATE)
DEFINE(_RATE, "swa_lr", 0.001, "lowest rate, or auto", **_SWA)
DEFINE(_RATE, "swa_lr2", 0.003, "highest rate of a cycle, or auto", **_SWA)
DEFINE_integer("swa_freq", 3, "epochs per cycle and per sample", 1, _MILLION, **_SWA)
DEFINE_integer(
    "verbose",
    1,
    "0 only what went wrong, 1 stages and epochs, 2 session options too",
    0,
    2,
    **_SWA,
)

DEFINE_integer("hidden_units", 108, "units of the hidden layer", 1, _MILLION, **_MODEL)
DEFINE_integer("num_classes", 108, "classes", 2, _MILLION, **_MODEL)
DEFINE_integer("num_features", 6, "features of synthetic rows", 1, _MILLION, **_MODEL)
DEFINE_integer(
    "num_samples",
    131072,
    "synthetic training rows; an eighth as many are held out",
    1,
    _INT32,
    **_MODEL,
)
DEFINE_string(
    "data_path", "./", "a directory (synthetic data), or an .npz with x and y", **_MODEL
)

DEFINE_enum("device", "auto", ["auto", "npu", "cpu"], "where to train", **_DEVICE)
DEFINE_enum(
    "precision_mode",
    "allow_mix_precision",
    [
        "allow_fp32_to_fp16",
        "force_fp16",
        "must_keep_origin_dtype",
        "allow_mix_precision",
    ],
    "mixed precision of an NPU",
    **_DEVICE,
)
DEFINE_string(
    "modify_mixlist", "", "JSON file of operators for mixed precision", **_DEVICE
)
DEFINE_enum(
    "memory_optimization",
    "vendor",
    ["vendor", "unset"],
    "option of an NPU session: OFF as the vendor sets it, or unset",
    **_DEVICE,
)
DEFINE_boolean("over_dump", False, "dump operators that overflow", **_DEVICE)
DEFINE_boolean("data_dump_flag", False, "dump operators' data", **_DEVICE)
DEFINE_string("data_dump_step", "10", "steps to dump, such as 5 or 0|3-7", **_DEVICE)
DEFINE_boolean("profiling", False, "profile the run", **_DEVICE)
DEFINE_string(
    "data_save_path",
    "/home/data",
    "directory for dumps and profiles; output_dir where it cannot be made",
    **_DEVICE,
)

DEFINE_string("output_dir", "", "results; output/$ASCEND_DEVICE_ID", **_OUTPUT)
DEFINE_integer(
    "save_interval",
    10,
    "epochs between two checkpoints; 0: at the end alone",
    0,
    _MILLION,
    **_OUTPUT,
)
DEFINE_integer("max_to_keep", 5, "checkpoints kept", 1, _MILLION, **_OUTPUT)
DEFINE_boolean(
    "resume", False, "go on from the newest checkpoint of output_dir", **_OUTPUT
)
DEFINE_boolean("tensorboard", False, "write figures for TensorBoard", **_OUTPUT)
DEFINE_boolean("check", False, "check flags, files and device, then stop", **_OUTPUT)

GROUPS = ("training", "SWA", "model and data", "device", "output")
PATHS = ("data_path", "modify_mixlist", "data_save_path", "output_dir")

# May a flag change when a run is resumed? These may not: the result depends on them.
FIXED = (
    *("batch_size", "learning_rate", "momentum", "seed", "start_epoch", "lr_schedule"),
    *("swa_lr", "swa_lr2", "swa_freq", "hidden_units", "num_classes"),
)
FIXED_FOR_SYNTHETIC = ("num_features", "num_samples")  # a file has its own
FIXED_ON_NPU = ("precision_mode", "modify_mixlist")  # no effect elsewhere
# The others may. The rows of data_path and the chosen device are compared themselves.

# Other names that the model zoo's launchers have for these.
DEFINE_alias("batch", "batch_size", **_ZOO)
DEFINE_alias("train_batch_size", "batch_size", **_ZOO)
DEFINE_alias("output_path", "output_dir", **_ZOO)

# The zoo's flags for other models. A harness passes them; they have no effect here.
NO_EFFECT = (
    *("max_step", "train_steps", "modeldir", "loss_scale", "npu_loss_scale"),
    *("autotune", "Autotune", "bind_core", "ckpt_path", "conda_name", "ffts"),
)
for _name in NO_EFFECT:
    DEFINE_string(_name, None, "no effect", **_ZOO)

for _name in ("learning_rate", "momentum", "swa_lr", "swa_lr2"):
    flags.register_validator(
        _name, lambda rate: rate == rate, "must be a number", FLAGS
    )
for _name in (*PATHS, "data_dump_step", *NO_EFFECT):
    flags.register_validator(
        _name,
        lambda text: not str(text).startswith("--"),
        "a value is missing before the next flag",
        FLAGS,
    )
flags.register_multi_flags_validator(
    ["over_dump", "data_dump_flag"],
    lambda both: not all(both.values()),
    "these exclude each other. Run once with each.",
    FLAGS,
)


def names_of(group):
    """The names of a group's flags, in the order of the help: a list of str."""
    return [flag.name for flag in FLAGS.flags_by_module_dict()[group]]


_NAMES = [name for group in GROUPS for name in names_of(group)]

# The settings of one run: a field for each flag, and `typed`, the names of the flags
# that stood on the command line. The default values are those of the flags.
_defaults = (FLAGS[name].default for name in _NAMES)
Config = namedtuple("Config", [*_NAMES, "typed"], defaults=[*_defaults, ()])


def parse(argv, flag_values=FLAGS):
    """Reads a command line: `--name=value`, `--name value`, `--switch`, `--noswitch`.

    Args:
      argv: list of str, without the program's name.
      flag_values: absl's FlagValues that hold these flags, and maybe more of the
        caller's own.

    Returns:
      Config whose paths are absolute, except where they are empty.

    Raises:
      UserError: with the flag, the rule and the value.
    """
    flag_values.unparse_flags()
    for word in argv:
        name = word.lstrip("-").partition("=")[0]
        if word.startswith("-") and (name in _OF_ABSL or len(name) > _LONGEST_NAME):
            raise UserError(f"Unknown command line flag {shown(name)}. See --help.")
    try:
        rest = flag_values(["program", *argv])[1:]
    except flags.IllegalFlagValueError as error:
        raise _refusal(error, flag_values) from None
    except (flags.Error, ValueError) as error:
        raise UserError(str(error)) from None
    if rest:
        raise _not_a_flag(argv[: len(argv) - len(rest)], rest[0])
    typed = tuple(name for name in flag_values if flag_values[name].present)
    values = {name: FLAGS[name].value for name in _NAMES}
    try:
        paths = {name: values[name] and os.path.abspath(values[name]) for name in PATHS}
    except FileNotFoundError:
        raise wrong(
            "paths must be absolute where the working directory is removed",
            argv,
            "Change to another directory.",
        ) from None
    return Config(**dict(values, **paths), typed=typed)


def arguments(config):
    """The command line that gives this configuration, in whatever directory.

    Args:
      config: Config, of `parse` or later.

    Returns:
      List of str, one `--name=value` for each flag that was typed.
    """
    names = [name for name in _NAMES if name in config.typed]
    return [f"--{name}={getattr(config, name)}" for name in names]


def without_effect(config):
    """What to say of flags that were typed and have no effect: a list, maybe empty."""
    names = [f"--{name}" for name in NO_EFFECT if name in config.typed]
    return [f"These options have no effect here: {' '.join(names)}"] if names else []


def help_text():
    """Each group's flags with their meanings and defaults, in many lines."""
    lines = []
    for group in GROUPS:
        lines += ["", f"{group}:"]
        for name in names_of(group):
            flag = FLAGS[name]
            has_default = flag.default not in ("", None)
            default = f", default is {flag.default}" if has_default else ""
            lines.append(f"  --{name:<19} {flag.help}{default}")
    return "\n".join(lines[1:])


def print_help():
    """Prints what the train script says of itself."""
    console.protect_streams()
    print(f"usage: train-tf.keras-npu.py [--flag=value ...]\n\n{help_text()}")


def _refusal(error, flag_values):
    """The UserError of a value that absl refuses."""
    words = error.__context__  # of the parser that refused it
    if not isinstance(words, (TypeError, ValueError)):  # a validator did
        return UserError(str(error))
    # "flag --name=value: words"
    flag_and_value = str(error)[len("flag --") : -len(f": {words}")]
    name, _, value = flag_and_value.partition("=")
    parser = flag_values[name].parser
    rule = parser.syntactic_help or "True, False, 1 or 0"
    if hasattr(parser, "enum_values"):
        rule = f"one of {', '.join(parser.enum_values)}"
    return wrong(f"{name} must be {rule}", value)


def _not_a_flag(words_before, word):
    """The UserError of a word that is neither a flag nor the value of one."""
    name = words_before[-1].lstrip("-") if words_before else ""
    advice = "See --help."
    if name in FLAGS and FLAGS[name].boolean:
        advice = f"Write --{name}={shown(word)[1:-1]}."
    return wrong("flags begin with --", word, advice)
