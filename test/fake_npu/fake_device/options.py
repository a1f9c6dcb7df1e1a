# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Reads and checks a session's options the way the vendor's adapter does."""

import json
import os
import re
import stat

from fake_device import settings
from fake_device.record import abort, error

NAME = "NpuOptimizer"
LONGEST_PROFILING_OPTIONS = 2047
LARGEST_STEP = 2**31 - 1  # steps go through atoi
LARGEST_DEVICE_ID = 2**32 - 1

# key: (the one field that is read, what its absence means, first release)
KEYS = {
    "use_off_line": ("b", True, "1.1"),
    "precision_mode": ("s", "", "1.1"),
    "enable_dump": ("b", False, "1.1"),
    "enable_dump_debug": ("b", False, "1.1"),
    "dump_path": ("s", None, "1.1"),
    "dump_step": ("s", None, "1.1"),
    "dump_mode": ("s", "output", "1.1"),
    "dump_debug_mode": ("s", "all", "1.1"),
    "profiling_mode": ("b", False, "1.1"),
    "profiling_options": ("s", None, "1.1"),
    "graph_run_mode": ("i", 1, "1.1"),
    "iterations_per_loop": ("i", 1, "1.1"),
    "mix_compile_mode": ("b", False, "1.1"),
    "hcom_parallel": ("b", False, "1.1"),
    "enable_data_pre_proc": ("b", False, "1.1"),
    "op_select_implmode": ("s", "high_performance", "1.1"),
    "op_debug_level": ("i", 0, "1.1"),
    "enable_exception_dump": ("i", 0, "1.1"),
    "auto_tune_mode": ("s", "", "1.1"),
    "op_compiler_cache_mode": ("s", "", "1.2"),
    "op_compiler_cache_dir": ("s", "", "1.2"),
    "debug_dir": ("s", "", "1.2"),
    "dynamic_input": ("b", False, "1.3"),
    "dynamic_graph_execute_mode": ("s", "dynamic_execute", "1.3"),
    "session_device_id": ("i", -1, "1.3"),
    "modify_mixlist": ("s", "", "1.5"),
}
# The walk over several entries sets these two anew at each of them.
RESET_BY_EACH_ENTRY = ("precision_mode", "op_select_implmode")
# Handed to the graph engine once: the first run of the process decides.
PROCESS_WIDE = (
    "precision_mode",
    "profiling_mode",
    "profiling_options",
    "graph_run_mode",
    "op_debug_level",
    "op_compiler_cache_mode",
    "op_compiler_cache_dir",
    "debug_dir",
    "session_device_id",
)


def entries(config):
    """The maps of all entries with the adapter's name, in their order."""
    optimizers = config.graph_options.rewrite_options.custom_optimizers
    return [entry.parameter_map for entry in optimizers if entry.name == NAME]


def read(maps):
    """Returns (options as the adapter reads them, keys that it does not know)."""
    options = {key: absent for key, (_, absent, _) in KEYS.items()}
    ignored = set()
    for parameter_map in maps:
        for key in RESET_BY_EACH_ENTRY:
            options[key] = KEYS[key][1]
        for key in parameter_map:
            field, _, first = KEYS.get(key, ("", None, "99"))
            if not settings.since(first):
                ignored.add(key)
                continue
            # A value in another field is read as this field's zero.
            value = getattr(parameter_map[key], field)
            options[key] = value.decode() if isinstance(value, bytes) else value
    if not options["precision_mode"]:
        inference = options["graph_run_mode"] == 0
        options["precision_mode"] = "force_fp16" if inference else "allow_fp32_to_fp16"
    return options, sorted(ignored)


def check(options, environ):
    """Ends the process, or raises, where the adapter or the graph engine would."""
    check_numbers(options)
    check_device(options, environ)
    check_dump(options, environ)
    check_profiling(options)
    mixlist = options["modify_mixlist"]
    if mixlist and options["precision_mode"] != "allow_mix_precision":
        error("modify_mixlist needs allow_mix_precision")
    if options["dynamic_input"]:
        mode = options["dynamic_graph_execute_mode"]
        if mode not in ("lazy_recompile", "dynamic_execute"):
            (error if settings.since("1.8") else abort)(
                "dynamic_graph_execute_mode is %r" % mode
            )


def check_numbers(options):
    """The options with a range."""
    if options["graph_run_mode"] not in (0, 1):
        abort("graph_run_mode is %r" % options["graph_run_mode"])
    if options["iterations_per_loop"] < 1:
        abort("iterations_per_loop is %r" % options["iterations_per_loop"])
    modes = ["high_precision", "high_performance"]
    if settings.since("1.5"):
        modes += [mode + "_for_all" for mode in modes]
    if options["op_select_implmode"] not in modes:
        abort("op_select_implmode is %r" % options["op_select_implmode"])
    if options["session_device_id"] < -1:
        abort("session_device_id is %r" % options["session_device_id"])


def check_device(options, environ):
    """The device's number: an option from r1.3 on, else the environment.

    An empty variable counts as unset. A number too wide becomes device 0 or ends the
    process; here it ends it.
    """
    if options["session_device_id"] >= 0:
        return
    for name in ("ASCEND_DEVICE_ID", "DEVICE_ID"):
        if environ.get(name):
            is_number = re.fullmatch("[0-9]+", environ[name])
            if not is_number or int(environ[name]) > LARGEST_DEVICE_ID:
                abort("%s is %r" % (name, environ[name]))
            return


def check_dump(options, environ):
    """The two kinds of dump."""
    dump, debug = options["enable_dump"], options["enable_dump_debug"]
    if dump or debug:
        path = options["dump_path"]
        if not (path and is_directory(path) and os.access(path, os.R_OK | os.W_OK)):
            (error if settings.since("1.7") else abort)("dump_path is %r" % path)
    if dump:
        if options["dump_step"] is not None:
            check_steps(options["dump_step"])
        if options["dump_mode"] not in ("input", "output", "all"):
            abort("dump_mode is %r" % options["dump_mode"])
    if debug:
        ranks = int(environ.get("RANK_SIZE", "1"))
        if settings.RELEASE == "1.2" and ranks > 1:
            abort("enable_dump_debug with RANK_SIZE %d" % ranks)
        modes = ("aicore_overflow", "atomic_overflow", "all")
        if options["dump_debug_mode"] not in modes:
            abort("dump_debug_mode is %r" % options["dump_debug_mode"])
    if dump and debug and settings.since("1.5"):
        abort("enable_dump and enable_dump_debug exclude each other")


def is_directory(path):
    """Whether it is one itself, by lstat: a link to one is none."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def check_steps(text):
    """The grammar of dump_step."""
    found = re.fullmatch("([0-9]+(-[0-9]+)?[|])*[0-9]+(-[0-9]+)?", text)
    if not found or text.count("|") > 99:
        abort("dump_step is %r" % text)
    if any(int(step) > LARGEST_STEP for step in re.findall("[0-9]+", text)):
        abort("dump_step is %r" % text)
    for first, last in re.findall("([0-9]+)-([0-9]+)", text):
        if int(first) >= int(last):
            abort("dump_step is %r" % text)


def is_dumped(options, step):
    """Whether dump_step, which holds for every step when absent, names this one."""
    if options["dump_step"] is None:
        return True
    for entry in options["dump_step"].split("|"):
        first, _, last = entry.partition("-")
        if int(first) <= step <= int(last or first):
            return True
    return False


def profiling_output(options):
    """The directory that the profiler's options name."""
    if not settings.since("1.2") or not options["profiling_options"]:
        return os.curdir
    return json.loads(options["profiling_options"]).get("output", os.curdir)


def check_profiling(options):
    """The profiler's options: names in r1.1, JSON from r1.2 on."""
    if not options["profiling_mode"]:
        return
    text = options["profiling_options"]
    if not text:
        if not settings.since("1.8"):
            abort("profiling_mode without profiling_options")
        return
    if not settings.since("1.2"):
        if not set(text.split(":")) <= {"training_trace", "task_trace", "op_trace"}:
            abort("profiling_options is %r" % text)
        return
    try:
        # The buffer cuts what does not fit.
        values = json.loads(text.encode()[:LONGEST_PROFILING_OPTIONS].decode())
    except ValueError:
        abort("profiling_options is no JSON: %r" % text[:80])
    trace = values.get("training_trace")
    if trace not in (None, "", "on"):
        abort("profiling_options: training_trace is %r" % trace)
    if trace == "on" and not settings.since("1.3"):
        for point in ("fp_point", "bp_point"):
            if not isinstance(values.get(point), str):
                abort("profiling_options: no %s" % point)
    if values.get("task_trace") == "on" and trace != "on":
        abort("profiling_options: task_trace without training_trace")
    if not os.path.isdir(values.get("output", os.curdir)):
        abort("profiling_options: no directory %r" % values["output"])
