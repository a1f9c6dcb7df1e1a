# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The command line: a table of flags, read by absl; the defaults are Config's."""

from swa.training.config import InputError

# a group's name, then (flag, kind, meaning); `check` alone is no setting of a run
GROUPS = (
    (
        "training",
        (
            ("train_epochs", "integer", "epochs to train"),
            ("batch_size", "integer", "samples per step"),
            ("learning_rate", "float", "SGD's learning rate"),
            ("momentum", "float", "SGD's momentum"),
            ("seed", "integer", "of data, initial weights and order of rows"),
        ),
    ),
    (
        "SWA",
        (
            ("start_epoch", "integer", "first epoch averaged [3/4 of train_epochs]"),
            ("lr_schedule", "string", "manual, constant or cyclic"),
            ("swa_lr", "string", "lowest rate, or auto"),
            ("swa_lr2", "string", "highest rate of a cycle, or auto"),
            ("swa_freq", "integer", "epochs per cycle and per sample"),
            ("verbose", "integer", "0 silent, 1 SWA's stages, 2 session options too"),
        ),
    ),
    (
        "model and data",
        (
            ("hidden_units", "integer", "units of the hidden layer"),
            ("num_classes", "integer", "classes"),
            ("num_features", "integer", "features of synthetic rows"),
            ("num_samples", "integer", "synthetic training rows"),
            ("data_path", "string", "directory (synthetic data), or .npz with x and y"),
        ),
    ),
    (
        "device",
        (
            ("device", "string", "auto, npu or cpu"),
            ("precision_mode", "string", "the NPU's mixed precision, one of four"),
            ("modify_mixlist", "string", "JSON file of operators for mixed precision"),
            ("over_dump", "string", "True: dump operators that overflow"),
            ("data_dump_flag", "string", "1: dump operators' data"),
            ("data_dump_step", "string", "steps to dump, such as 5 or 0|3-7"),
            ("profiling", "string", "True: profile the run"),
            ("data_save_path", "string", "directory for dumps and profiles"),
        ),
    ),
    (
        "output",
        (
            ("output_dir", "string", "results [output/$ASCEND_DEVICE_ID]"),
            ("save_interval", "integer", "epochs between checkpoints, 0: only the end"),
            ("max_to_keep", "integer", "checkpoints kept"),
            ("resume", "boolean", "go on from the newest checkpoint of output_dir"),
            ("tensorboard", "boolean", "write figures for TensorBoard"),
            ("check", "boolean", "check flags, files and device, then stop"),
        ),
    ),
)


def read(defaults, argv):
    """Reads the command line.

    Args:
      defaults: dict, a setting's value where its flag is not given.
      argv: list of str, the program's name first.

    Returns:
      (dict of the settings by name, bool: whether only to check).

    Raises:
      InputError: an unknown flag, a value of the wrong kind, or a word alone.
    """
    from absl import flags

    values = flags.FlagValues()
    for name, kind, meaning in [flag for _, group in GROUPS for flag in group]:
        default = defaults.get(name, False)
        default = str(default) if kind == "string" else default
        getattr(flags, "DEFINE_" + kind)(name, default, meaning, flag_values=values)
    try:
        rest = values(argv)[1:]
    except flags.Error as error:
        raise InputError(str(error).splitlines()[0]) from None
    if rest:
        raise InputError(f"flags begin with --, got {rest[0]!r}.")
    return {name: values[name].value for name in defaults}, values["check"].value


def print_help(defaults):
    """Prints each group's flags with their meanings and defaults."""
    print("usage: train-tf.keras-npu.py [--flag=value ...]")
    for title, group in GROUPS:
        print(f"\n{title}:")
        for name, _, meaning in group:
            told = "" if defaults.get(name, "") in ("", None) else [defaults[name]]
            print(f"  --{name:<16} {meaning} {told}")
