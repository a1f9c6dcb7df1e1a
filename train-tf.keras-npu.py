# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Trains an MLP with SWA. Parses under any Python, to tell a wrong one the right."""

from __future__ import print_function

import os
import sys
import time

BEGAN = time.time()
DEVICE_ID = os.environ.get("ASCEND_DEVICE_ID") or "0"
ROOT = os.path.dirname(os.path.abspath(__file__))
# a group's name, then (flag, kind, meaning); the defaults are those of Config
GROUPS = (
    ("training", (
        ("train_epochs", "integer", "epochs to train"),
        ("batch_size", "integer", "samples per step"),
        ("learning_rate", "float", "SGD's learning rate"),
        ("momentum", "float", "SGD's momentum"),
        ("seed", "integer", "of data, initial weights and order of rows"))),
    ("SWA", (
        ("start_epoch", "integer", "first epoch averaged [3/4 of train_epochs]"),
        ("lr_schedule", "string", "manual, constant or cyclic"),
        ("swa_lr", "string", "lowest rate, or auto"),
        ("swa_lr2", "string", "highest rate of a cycle, or auto"),
        ("swa_freq", "integer", "epochs per cycle and per sample"),
        ("verbose", "integer", "0 silent, 1 SWA's stages, 2 session options too"))),
    ("model and data", (
        ("hidden_units", "integer", "units of the hidden layer"),
        ("num_classes", "integer", "classes"),
        ("num_features", "integer", "features of synthetic rows"),
        ("num_samples", "integer", "synthetic training rows"),
        ("data_path", "string", "directory (synthetic data), or .npz with x and y"))),
    ("device", (
        ("device", "string", "auto, npu or cpu"),
        ("precision_mode", "string", "the NPU's mixed precision, one of four modes"),
        ("modify_mixlist", "string", "JSON file of operators for mixed precision"),
        ("over_dump", "string", "True: dump operators that overflow"),
        ("data_dump_flag", "string", "1: dump operators' data"),
        ("data_dump_step", "string", "steps to dump, such as 5 or 0|3-7"),
        ("profiling", "string", "True: profile the run"),
        ("data_save_path", "string", "directory for dumps and profiles"))),
    ("output", (
        ("output_dir", "string", "results [output/$ASCEND_DEVICE_ID]"),
        ("check", "boolean", "check flags, files and device, then stop"))),
)  # fmt: skip


def fail(message):
    sys.stderr.write("train-tf.keras-npu.py: error: %s\n" % message)
    sys.exit(2)


def require_tensorflow():
    """Names the command to run instead where this Python has no TensorFlow 1.15."""
    if sys.version_info[:2] == (3, 7):
        from importlib.util import find_spec

        if all(find_spec(name) for name in ("tensorflow_core", "absl", "numpy")):
            return
    words = " ".join("'%s'" % w.replace("'", "'\\''") for w in sys.argv[1:])
    told = "this Python has no TensorFlow 1.15. Run: source '%s/test/env.sh' && "
    fail((told + "\"$PYTHON\" '%s/train-tf.keras-npu.py' %s") % (ROOT, ROOT, words))


def read_flags(defaults, argv):
    """Returns the flags' values by name, and whether only to check."""
    from absl import flags

    values = flags.FlagValues()
    for name, kind, meaning in [flag for _, group in GROUPS for flag in group]:
        default = defaults.get(name, False)
        default = str(default) if kind == "string" else default
        getattr(flags, "DEFINE_" + kind)(name, default, meaning, flag_values=values)
    try:
        rest = values(argv)[1:]
    except flags.Error as error:
        fail(str(error).splitlines()[0])
    if rest:
        fail("flags begin with --, got %r." % rest[0])
    return {name: values[name].value for name in defaults}, values["check"].value


def print_help(defaults):
    print("usage: train-tf.keras-npu.py [--flag=value ...]")
    for title, group in GROUPS:
        print("\n%s:" % title)
        for name, _, meaning in group:
            told = "" if defaults.get(name, "") in ("", None) else [defaults[name]]
            print("  --%-16s %s %s" % (name, meaning, told))


def main(argv):
    from swa.training import config as settings
    from swa.training import data, quieten, session

    defaults = settings.Config()._asdict()
    if {"-h", "--help", "-help"} & set(argv[1:]):
        return print_help(defaults)
    values, only_check = read_flags(defaults, argv)
    values["output_dir"] = values["output_dir"] or os.path.join("output", DEVICE_ID)
    try:
        config = settings.checked(settings.Config(**values))
        choice = session.choose_device(config, os.environ)
        rows = data.load(config)
        if only_check:
            return print("checked: flags, files and device are in order")
        quieten.tensorflow(config.verbose)
        from swa.training import trainer

        told = trainer.run(config, choice, rows, sys.stdout.isatty(), BEGAN)
        sys.exit(told["status"] != "completed")
    except settings.InputError as error:
        fail(error)


if __name__ == "__main__":
    require_tensorflow()
    main(sys.argv)
