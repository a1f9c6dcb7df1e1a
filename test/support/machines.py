# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What tests of a machine with an NPU give it."""

import sys


def make(**fields):
    """The Config of a command line with these flags."""
    from swa.training import flags, settings  # conftest.py sets the path first

    words = [f"--{name}={value}" for name, value in fields.items()]
    return settings.checked(flags.parse(words))


def install(tmp_path, monkeypatch, package="", init=""):
    """Puts an npu_bridge of these sources on the path."""
    folder = tmp_path / "site" / "npu_bridge"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text(package)
    # running npu_init is a mistake: it changes every later session of the process
    (folder / "npu_init.py").write_text(init + "\nraise SystemExit('npu_init has run')")
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.delitem(sys.modules, "npu_bridge")
