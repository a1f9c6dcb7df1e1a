# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What SWA costs and what it gains, measured.

overhead: `fit` with SWA over `fit` without, beside a null arm and keras-swa 0.1.7.
throughput: the trainer's samples per second beside the bare train step's.
scaling: seconds of a fold and of a checkpoint over the number of weights.
networks: a first and a second `fit` of MobileNetV2, ResNet50, a hundred batch norms
and an LSTM, with SWA, without, and with keras-swa; memory and operations.
quality: held-out accuracy and loss on real data at equal budgets.
all: the five, in under 30 minutes on two cores.

Each prints a table and writes its figures to FILE (benchmark-NAME.json in the
current folder by default). With --update-readme the figures also go into
test/benchmarks/results.json, and the documents' tables are written from it; that
alone is done where no NAME is given.
"""

import argparse
import os
import sys

from benchmarks import common, networks, overhead, quality, readme, scaling, throughput

BENCHMARKS = {
    "overhead": overhead.run,
    "throughput": throughput.run,
    "scaling": scaling.run,
    "networks": networks.run,
    "quality": quality.run,
}


class Parser(argparse.ArgumentParser):
    """Tells a wrong argument in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def positive(text):
    """An integer of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer >= 1, got {text!r}.")
    return int(text)


def parsed(argv):
    """The options, and the file for the figures."""
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    parser.add_argument("name", nargs="?", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--json", metavar="FILE", help="file for the figures")
    parser.add_argument("--rounds", type=positive, default=15, help="default 15")
    parser.add_argument("--seeds", type=positive, default=20, help="default 20")
    parser.add_argument(
        "--choose",
        action="store_true",
        help="with quality: choose its settings on the validation rows, once",
    )
    parser.add_argument(
        "--update-readme",
        action="store_true",
        help="keep the figures and write the documents' tables from them",
    )
    parser.add_argument(
        "--peers",
        default=os.path.join(cache, "swa-for-tensorflow"),
        help="folder that keras-swa is installed in, apart from all else",
    )
    options = parser.parse_args(argv)
    if options.name is None and not options.update_readme:
        parser.error("a NAME or --update-readme must be given, got neither.")
    if options.choose and options.name != "quality":
        parser.error(f"--choose must come with quality, got {options.name}.")
    path = os.path.abspath(options.json or f"benchmark-{options.name}.json")
    if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path)):
        parser.error(f"--json must be a file in an existing folder, got {path!r}.")
    return options, path


def main(argv):
    options, path = parsed(argv)
    if options.choose:
        return quality.choose(options)
    content = {}
    if options.name is not None:
        environment = common.environment()
        for name in BENCHMARKS if options.name == "all" else [options.name]:
            print(f"{name}:", flush=True)
            content[name] = BENCHMARKS[name](options)
            content[name]["environment"] = environment
            content[name]["is_whole"] = options.rounds >= 15 and options.seeds >= 20
        common.write(path, content)
        print(f"figures written to {path}")
    if options.update_readme:
        readme.keep(content)
        readme.update()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        common.worker(*sys.argv[2:])
    else:
        main(sys.argv[1:])
