# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The model zoo's result files and lines, from report.json.

The zoo's own launchers grep these figures from Keras's progress bar; tools that read
the zoo's files find them here under the same names.
"""

import os
import platform

from swa.training import files
from swa.training.errors import FAILED

NETWORK = "SWA_ID0252_for_TensorFlow"
# all result files, also those of other settings
FILES = tuple(f"{NETWORK}_*_{end}" for end in ("acc.log", "perf.log", "loss.txt"))


def summary(report, case_suffix):
    """The zoo's result lines, in its order.

    Args:
      report: dict, of report.json.
      case_suffix: "acc" or "perf".

    Returns:
      dict of str.
    """
    batch_size = report["config"]["batch_size"]
    ranks = report["ranks"]
    rate = report["samples_per_second"]
    case = f"{NETWORK}_bs{batch_size}_{ranks}p_{case_suffix}"
    return {
        "Network": NETWORK,
        "RankSize": str(ranks),
        "BatchSize": str(batch_size),
        "DeviceType": platform.machine(),
        "CaseName": case,
        "ActualFPS": f"{rate:.2f}",
        "TrainingTime": f"{1e6 / rate:.2f}",  # microseconds per sample
        "TrainAccuracy": f"{report['final_accuracy']:.4f}",
        "ActualLoss": f"{report['final_loss']:.4f}",
        "E2ETrainingTime": f"{report['e2e_seconds']:.0f}",
    }


def write(folder, case_suffix):
    """Writes the result files of the run in `folder`, beside its report.json.

    Args:
      folder: str.
      case_suffix: "acc" or "perf".

    Returns:
      List of str, the lines to show.

    Raises:
      UserError: the report cannot be read, or a file cannot be written.
    """
    path = os.path.join(folder, "report.json")
    report = files.read_json("report.json", path, FAILED)
    values = summary(report, case_suffix)
    path = os.path.join(folder, values["CaseName"])
    _write(path + ".log", [f"{key} = {value}" for key, value in values.items()])
    _write(path + "_loss.txt", [f"{loss:.4f}" for loss in report["epoch_losses"]])
    return [
        "------------------ Final result ------------------",
        f"Final Performance images/sec : {values['ActualFPS']}",
        f"Final Train Accuracy : {values['TrainAccuracy']}",
        f"E2E Training Duration sec : {values['E2ETrainingTime']}",
    ]


def _write(path, lines):
    files.write(path, "".join(line + "\n" for line in lines).encode())
