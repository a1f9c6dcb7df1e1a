# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the package says of itself: names, docstrings, messages, imports."""

import ast
import doctest
import inspect
import subprocess
import sys
import textwrap

import pytest
from conftest import ROOT

SOURCES = sorted((ROOT / "swa").glob("*.py"))
TRAINER = sorted((ROOT / "swa" / "training").glob("*.py"))
LAUNCHER = sorted((ROOT / "test" / "launcher").glob("*.py"))
PUBLIC = ("schedules", "averaging", "moments", "tfkeras")


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", ["schedules", "averaging", "moments"])
def test_what_is_pure_imports_no_framework(module):
    code = (
        f"import sys, swa.{module}; "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    )
    assert subprocess.call([sys.executable, "-c", code], cwd=str(ROOT)) == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_lists_what_is_public_and_tells_of_it(name):
    module = __import__(f"swa.{name}", fromlist=["__all__"])
    for public in module.__all__:
        value = getattr(module, public)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"


def arguments_of(function):
    parameters = inspect.signature(function).parameters.values()
    return [
        parameter.name
        for parameter in parameters
        if parameter.name not in ("self", "logs")
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_docstrings_of_public_functions_name_their_arguments(name):
    module = __import__(f"swa.{name}", fromlist=["__all__"])
    for public in module.__all__:
        value = getattr(module, public)
        if not inspect.isfunction(value):
            continue
        text = inspect.getdoc(value)
        arguments = arguments_of(value)
        if len(arguments) > 2:
            missing = [name for name in arguments if name not in text]
            assert "Args:" in text and not missing, (public, missing)


def test_the_docstring_of_swa_names_every_argument_in_order():
    from swa.tfkeras import SWA

    section = inspect.getdoc(SWA).split("Args:\n")[1].split("Attributes:\n")[0]
    told = [
        line.split(":")[0].strip()
        for line in section.splitlines()
        if line.startswith("  ") and not line.startswith("   ") and ":" in line
    ]
    assert told == arguments_of(SWA.__init__)


def test_the_example_in_the_docstring_of_swa_runs():
    from swa import callback

    text = inspect.getdoc(callback.SWA).split("Example:\n")[1].split("\nArgs:")[0]
    code = textwrap.dedent(text)
    command = [sys.executable, "-W", "ignore", "-c", code]
    subprocess.run(command, cwd=str(ROOT), check=True)
    assert "swa.n_averaged == 4" in code


def test_get_config_builds_an_equal_callback(kit):
    swa = kit.SWA(3, "cyclic", 0.01, 0.05, 2, 32, 1, "cycle_end")
    assert kit.SWA(**swa.get_config()).get_config() == swa.get_config()


# Messages


def raised_errors(paths):
    """(place, call) of every `raise` that makes an error."""
    calls = []
    for path in paths:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                calls.append((f"{path.relative_to(ROOT)}:{node.lineno}", node.exc))
    return calls


def has(kind, call):
    """Whether the arguments of a call hold a node of this kind."""
    arguments = call.args + [keyword.value for keyword in call.keywords]
    nodes = [node for argument in arguments for node in ast.walk(argument)]
    return any(isinstance(node, kind) for node in nodes)


def test_every_message_of_the_product_tells_a_value_or_a_name():
    fixed = []
    for place, call in raised_errors(SOURCES + TRAINER + LAUNCHER):
        is_of_a_value = call.func.id.endswith("wrong")  # `wrong` shows what it is given
        if not is_of_a_value and not has(ast.Name, call):
            fixed.append(place)
    assert not fixed, "these say the same whatever was given"


def test_every_message_of_the_callback_is_made_of_values_where_it_is_raised():
    errors = raised_errors(SOURCES)
    assert len(errors) > 10
    for place, call in errors:
        assert has(ast.FormattedValue, call), f"{place} tells no value"
        is_binding = place.split(":")[0] in ("swa/tfkeras.py", "swa/keras.py")
        kinds = ["ImportError"] if is_binding else ["RuntimeError", "TypeError"]
        assert call.func.id in ["ValueError", *kinds], place


# Imports


def test_modules_import_in_one_direction():
    """No module imports, by whatever way, one that imports it."""
    arrows = {}
    names = {path.stem for path in SOURCES} - {"__init__"}
    for path in SOURCES:
        arrows[path.stem] = set()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module == "swa":
                arrows[path.stem] |= {alias.name for alias in node.names} & names
            elif isinstance(node, ast.ImportFrom) and node.module:
                arrows[path.stem] |= {node.module.replace("swa.", "")} & names
    arrows["keras"].discard("keras")  # the package of that name
    reached = {name: set(below) for name, below in arrows.items()}
    for _ in names:
        for below in reached.values():
            below |= set().union(*[reached[one] for one in below])
    assert not [name for name in names if name in reached[name]]


def test_the_package_has_no_doctest_that_nobody_runs():
    finder = doctest.DocTestFinder()
    from swa import callback, schedules

    assert not [t for m in (callback, schedules) for t in finder.find(m) if t.examples]
