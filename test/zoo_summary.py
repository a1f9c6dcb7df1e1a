# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Writes and prints the model zoo's result files and lines, from report.json.

usage: zoo_summary.py OUTPUT_DIR acc|perf

The zoo's own launchers grep these figures from Keras's progress bar; tools that read
the zoo's files find them here under the same names.
"""

import json
import os
import platform
import sys

NETWORK = "SWA_ID0252_for_TensorFlow"


def summary(report, case_suffix):
    """The zoo's result lines, in its order: a list of (key, text)."""
    batch_size = report["config"]["batch_size"]
    ranks = report["ranks"]
    rate = report["samples_per_second"]
    case = "{}_bs{}_{}p_{}".format(NETWORK, batch_size, ranks, case_suffix)
    return [
        ("Network", NETWORK),
        ("RankSize", str(ranks)),
        ("BatchSize", str(batch_size)),
        ("DeviceType", platform.machine()),
        ("CaseName", case),
        ("ActualFPS", "{:.2f}".format(rate)),
        ("TrainingTime", "{:.2f}".format(1e6 / rate)),  # microseconds per sample
        ("TrainAccuracy", "{:.4f}".format(report["final_accuracy"])),
        ("ActualLoss", "{:.4f}".format(report["final_loss"])),
        ("E2ETrainingTime", "{:.2f}".format(report["e2e_seconds"])),
        ("Device", report["device"]),
    ]


def write(path, lines):
    """Writes the lines as a whole or not at all."""
    temporary = path + ".tmp"
    try:
        with open(temporary, "w") as file:
            file.writelines(line + "\n" for line in lines)
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        sys.exit(
            "zoo_summary.py: error: {} cannot be written: {}.".format(
                path, error.strerror
            )
        )


def main(output_dir, case_suffix):
    with open(os.path.join(output_dir, "report.json")) as file:
        report = json.load(file)
    lines = summary(report, case_suffix)
    values = dict(lines)
    path = os.path.join(output_dir, values["CaseName"])
    write(path + ".log", ["{} = {}".format(key, value) for key, value in lines])
    losses = ["{:.4f}".format(loss) for loss in report["epoch_losses"]]
    write(path + "_loss.txt", losses)
    print("------------------ Final result ------------------")
    print("Final Performance images/sec : " + values["ActualFPS"])
    print("Final Train Accuracy : " + values["TrainAccuracy"])
    print("E2E Training Duration sec : " + values["E2ETrainingTime"])
    print("Device = " + values["Device"])


if __name__ == "__main__":
    main(*sys.argv[1:])
