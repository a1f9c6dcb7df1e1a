# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The package as another project gets it: built, installed, imported, trained with."""

import ast
import inspect
import os
import pydoc
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest
from conftest import ROOT

import swa as package

pytest.importorskip("flit_core")

# what Python 3.7 added to the standard library, as far as a callback might use it
SINCE_37 = {"nullcontext", "AsyncExitStack", "perf_counter_ns", "time_ns", "dataclass"}
SINCE_37 |= {"capture_output", "dataclasses", "contextvars", "importlib.resources"}
TRAIN = """
import numpy as np
import tensorflow as tf

from swa.tfkeras import SWA

layers = tf.keras.layers
model = tf.keras.Sequential(
    [layers.Dense(4, input_shape=(2,)), layers.BatchNormalization(), layers.Dense(1)]
)
model.compile("sgd", "mse")
swa = SWA(2, "constant", swa_lr=0.001)
model.fit(np.ones((8, 2)), np.ones((8, 1)), epochs=4, verbose=0, callbacks=[swa])
import swa as package

print(package.__file__)
print(swa.n_averaged, swa.batch_norm_epoch)
"""


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=300,
        **options,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def callback_files():
    """The files that `import swa.tfkeras` and `swa.keras` may read."""
    return sorted((ROOT / "swa").glob("*.py"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what a package is built from."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("README.md", "LICENSE", "pyproject.toml"):
        shutil.copy(str(ROOT / name), str(folder))
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(str(ROOT / "swa"), str(folder / "swa"), ignore=ignored)
    return folder


@pytest.fixture(scope="module")
def wheel(project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from flit_core import buildapi; buildapi.build_wheel({str(folder)!r})"
    run(sys.executable, "-c", code, cwd=str(project))
    (made,) = folder.glob("*.whl")
    with zipfile.ZipFile(str(made)) as opened:
        yield opened


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A new virtual environment that sees this one's packages, after its own."""
    pytest.importorskip("ensurepip")
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = run(python, "-c", code).strip()
    seen = [path for path in sys.path if path.endswith("-packages")]
    with open(os.path.join(site, "seen.pth"), "w") as file:
        file.writelines(path + "\n" for path in seen)
    return python


def test_pip_install_gives_a_callback_that_trains(project, environment, tmp_path):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    install = [environment, "-m", "pip", "install", "-q", "--no-build-isolation"]
    # without an index nothing can come along, TensorFlow least of all
    run(*install, "--no-index", ".", cwd=str(project), env=environ)
    told = run(environment, "-c", TRAIN, cwd=str(tmp_path), env=environ)
    path, counts = told.strip().splitlines()[-2:]
    assert path.startswith(str(environment.parent.parent)), path
    assert counts == "2 4"


def test_the_wheel_requires_no_package(wheel):
    (name,) = [n for n in wheel.namelist() if n.endswith("METADATA")]
    metadata = wheel.read(name).decode()
    required = [s for s in metadata.splitlines() if s.startswith("Requires-Dist:")]
    assert required and all("extra ==" in line for line in required)
    assert "Requires-Python: >=3.6,<3.8\n" in metadata


def test_the_wheel_tells_licence_subject_and_addresses(wheel):
    (name,) = [n for n in wheel.namelist() if n.endswith("METADATA")]
    metadata = wheel.read(name).decode()
    assert f"Version: {package.__version__}\n" in metadata
    assert "Classifier: License :: OSI Approved :: MIT License\n" in metadata
    (keywords,) = re.findall("^Keywords: (.*)$", metadata, re.MULTILINE)
    assert {"swa", "keras", "ascend"} <= set(keywords.split(","))
    urls = re.findall("^Project-URL: (.*), (https://.*)$", metadata, re.MULTILINE)
    assert [url for label, url in urls if "port" in label][0].startswith(
        "https://github.com/Ascend/ModelZoo-TensorFlow/"
    )
    assert ("Paper", "https://arxiv.org/abs/1803.05407") in urls


def test_the_wheel_is_marked_as_typed(wheel):
    assert "swa/py.typed" in wheel.namelist()
    assert "Classifier: Typing :: Typed" in "".join(
        wheel.read(n).decode() for n in wheel.namelist() if n.endswith("METADATA")
    )


def test_the_wheel_holds_the_package_and_nothing_beside_it(wheel):
    outside = [n for n in wheel.namelist() if not n.startswith("swa/")]
    assert all(".dist-info/" in name for name in outside)
    assert {"swa/tfkeras.py", "swa/keras.py"} <= set(wheel.namelist())


@pytest.mark.parametrize("path", callback_files(), ids=lambda path: path.name)
def test_the_callback_is_written_for_python_36(path):
    # 3.7's grammar is 3.6's but for this import and two reserved words
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names.update([node.module] + [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.keyword):
            names.add(node.arg)
    assert "annotations" not in names
    assert not names & SINCE_37


def test_python_36_compiles_the_callback(tmp_path):
    python = shutil.which("python3.6")
    works = python and not subprocess.call(
        [python, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if not works:
        pytest.skip("no Python 3.6 on the PATH")
    code = "import ast, sys; [ast.parse(open(p).read()) for p in sys.argv[1:]]"
    environ = dict(os.environ, PYTHONIOENCODING="utf-8", LC_ALL="C.UTF-8")
    run(python, "-c", code, *callback_files(), env=environ)


def test_help_tells_every_argument_of_the_callback():
    from swa.tfkeras import SWA

    told = pydoc.plain(pydoc.render_doc(SWA))
    names = SWA.__init__.__code__.co_varnames[1 : SWA.__init__.__code__.co_argcount]
    for name in names:
        assert f"{name}:" in told.replace(", ", ": "), name
    assert "Raises:" in told and "arXiv:1803.05407" in told


def test_the_public_surface_has_types():
    import typing

    from swa import tfkeras

    public = [tfkeras.SWA.__init__, tfkeras.update_bn]
    for name, found in vars(tfkeras.SWA.__mro__[1]).items():
        if name.startswith(("_", "on_")):
            continue
        found = found.fget if isinstance(found, property) else found
        if callable(found):
            public.append(found)
    for function in public:
        hints = set(typing.get_type_hints(function))
        code = function.__code__
        names = set(code.co_varnames[: code.co_argcount]) - {"self"}
        assert names | {"return"} <= hints, function.__qualname__
        for name, parameter in inspect.signature(function).parameters.items():
            hint = str(parameter.annotation)
            may_be_none = hint == "typing.Any" or re.match("typing.(Union|Opt)", hint)
            assert parameter.default is not None or may_be_none, name


@pytest.mark.parametrize(
    "module, extra", [("swa.tfkeras", "'.[cpu]'"), ("swa.keras", "'.[cpu,keras]'")]
)
def test_without_its_framework_an_import_says_what_to_install(module, extra):
    # -S leaves out all that pip installed
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import {module}"],
        cwd=str(ROOT),
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {module} needs ")
    assert "TensorFlow 1.15 on Python 3.6 or 3.7, got No module named" in last
    assert f"pip install {extra}" in last
    assert "During handling" not in done.stderr


def test_the_licence_names_both_authors():
    lines = (ROOT / "LICENSE").read_text().splitlines()
    holders = [line for line in lines if line.startswith("Copyright (c) ")]
    assert holders[0] == "Copyright (c) 2026 The SWA for TensorFlow authors"
    assert holders[1].startswith("Copyright (c) 2019 Simon Larsson")
    assert "keras-swa" in holders[1] and len(holders) == 2


def test_changelog_citation_and_package_have_one_version():
    versions = re.findall(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert versions[0] == package.__version__ == "2.0.0"
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {package.__version__}\n" in citation
    assert "1803.05407" in citation and "Izmailov" in citation


def test_contributing_is_five_lines_that_lead_to_the_developers_page():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(re.findall(r"^\d\. ", text, re.MULTILINE)) == 5
    assert "(docs/developing.md)" in text


def test_the_extras_can_be_had_on_this_python():
    pinned = {
        line.split("==")[0]
        for line in (ROOT / "test" / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    benchmark = {"matplotlib", "mlxtend", "mnist1d", "scikit-learn"}
    assert {"flit-core", "keras", *benchmark} <= pinned
    assert sysconfig.get_python_version() == "3.7"
