# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The settings of one run: the flags, and what they imply together."""

import os

from swa import schedules
from swa.training import npu_options, output
from swa.training.errors import UserError
from swa.training.world import number_in

_LARGEST_DEVICE_ID = 2**32 - 1  # above it the adapter takes another device


def checked(config, environ=os.environ):
    """The settings with what they imply filled in; checks all that needs no device.

    Args:
      config: Config, of `flags.parse`.
      environ: mapping; ASCEND_DEVICE_ID names the default output directory.

    Returns:
      Config; checked again it is the same.

    Raises:
      UserError: with the flag, the rule and the value given.
    """
    config = config._replace(
        start_epoch=config.start_epoch or config.train_epochs * 3 // 4,
        output_dir=config.output_dir or default_output_dir(environ),
    )
    check_schedule(config)
    output.check_writable("output_dir", config.output_dir)
    config = config._replace(data_save_path=_data_save_path(config))
    npu_options.check_values(config)
    return config


def default_output_dir(environ):
    """output/N for device N, below the working directory."""
    return os.path.abspath(f"output/{device_id(environ)}")


def device_id(environ, name="ASCEND_DEVICE_ID"):
    """int: the device that the variable of that name asks for, 0 where it is empty.

    Raises:
      UserError: it is no device id; the adapter would end the process.
    """
    return number_in(environ, name, 0, least=0, most=_LARGEST_DEVICE_ID)


def swa_settings(config):
    """The SWA callback's first arguments, in their order."""
    names = ("start_epoch", "lr_schedule", "swa_lr", "swa_lr2", "swa_freq")
    return [getattr(config, name) for name in names]


def check_schedule(config):
    """Raises UserError unless the SWA settings and train_epochs fit together."""
    try:
        settings = schedules.checked(*swa_settings(config))
        schedules.check_run(settings, config.train_epochs, config.learning_rate)
    except ValueError as error:
        raise UserError(str(error)) from None


def _data_save_path(config):
    """Where dumps and profiles go: the default place if it can be written in."""
    if "data_save_path" not in config.typed:
        try:
            output.check_writable("data_save_path", config.data_save_path)
        except UserError:
            return config.output_dir
    return config.data_save_path
