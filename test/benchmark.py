# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What SWA costs and what it gains, measured.

overhead: `fit` with SWA over `fit` without, beside a null arm and keras-swa 0.1.7.
throughput: the trainer's samples per second beside the bare train step's.
scaling: seconds of a fold and of a checkpoint over the number of weights.
networks: a first and a second `fit` of MobileNetV2, ResNet50, a hundred batch norms
and an LSTM, with SWA, without, and with keras-swa; memory and operations.
quality: held-out accuracy, loss and calibration of five arms on nine tasks, with the
settings that --choose has found.
all: the five; each says how long it took last time. A part that FILE has already,
with as many rounds and seeds, is passed over: a run that was ended goes on there.
Within quality it goes on with the next task, from FILE.runs.

Each prints a table and writes its figures to FILE (benchmark-NAME.json in the
current folder by default). With --update-readme the figures also go into
test/benchmarks/results.json, and the documents' tables are written from it; that
alone is done where no NAME is given.
"""

import argparse
import os
import sys
import time

from benchmarks import (
    choice,
    common,
    networks,
    overhead,
    quality,
    readme,
    scaling,
    throughput,
)

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
    """The options; `json` is the absolute path of the file for the figures."""
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
        help="with quality: choose its settings on validation rows (an hour); what "
        "settings.json has tried already is not tried again",
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
    options.json = path
    return options


def main(argv):
    options = parsed(argv)
    if options.choose:
        return choice.choose(common.peer_folder(options.peers))
    content = {}
    if options.name == "all":
        content = measured_before(options.json)
        for name in BENCHMARKS:
            measure(name, options, content)
    elif options.name is not None:
        measure(options.name, options, content)
    if options.update_readme:
        readme.keep(content)
        readme.update()


def measured_before(path):
    """The figures that a file has, none where there is no such file."""
    try:
        return common.read(path)
    except FileNotFoundError:
        return {}
    except ValueError:
        Parser().error(f"--json must hold figures, or not exist yet, got {path!r}.")


def measure(name, options, content):
    """Puts the figures of a part into `content` and the file, if they are not there."""
    path = options.json
    asked = {"rounds": options.rounds, "seeds": options.seeds}
    if content.get(name, {}).get("asked") == asked:
        print(f"{name}: passed over, {path} has it")
        return
    print(f"{name}: {expected(name, asked)}", flush=True)
    start = time.monotonic()
    figures = BENCHMARKS[name](options)
    figures.setdefault("seconds", time.monotonic() - start)
    figures["environment"] = common.environment()
    figures["is_whole"] = options.rounds >= 15 and options.seeds >= 20
    content[name] = dict(figures, asked=asked)
    common.write(path, content)
    print(f"figures written to {path}")


def expected(name, asked):
    """How long a part will take: as long as last time, where that is known."""
    kept = common.read(readme.RESULTS) if readme.RESULTS.exists() else {}
    last = kept.get(name, {})
    if last.get("asked") != asked:
        return "it is not known how long this takes; never so measured before"
    return f"about {max(1, round(last['seconds'] / 60))} minutes, as last time"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        common.worker(*sys.argv[2:])
    else:
        main(sys.argv[1:])
