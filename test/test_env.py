# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""env.sh and run_tests.sh in a copy of the project, among fake interpreters."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = (
    "basename bash cat chmod cksum cp dirname env flock ln mkdir mv readlink rm sleep"
    " tail touch"
)
# Answers env.sh's questions with fixed words, and imitates venv and pip. A file named
# pip.fails or pip.hangs beside the log makes its pip do so.
FAKE_PYTHON = """#!/usr/bin/env bash
log="{log}"
printf '%s\\n' "$0 $1 ${{2%%$'\\n'*}} ${{*:3}}" >>"$log"
case "$1 $2" in
  "-m venv")
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    ;;
  "-m pip")
    if [[ "$*" == *uv* ]]; then
      printf '%s\\n' '#!/usr/bin/env bash' '[[ "$1" == python ]] || exit 0' \\
        'to="$UV_PYTHON_INSTALL_DIR/cpython-3.7.9/bin"; mkdir -p "$to"' \\
        'cp "{log}.uv-python" "$to/python3.7"' >"${{0%/*}}/uv"
      chmod +x "${{0%/*}}/uv"
    elif [[ "$*" == *" -r "* ]]; then
      touch "{log}.pip-began"
      if [[ -e "{log}.pip-hangs" ]]; then sleep 60; fi
      if [[ -e "{log}.pip-fails" ]]; then exit 1; fi
      sleep 0.2
    fi
    ;;
  "-c import tensorflow") ;;
  *) printf '%s\\n' "{words}" ;;
esac
"""


class Machine:
    """A project folder, and a PATH with the tools that env.sh needs and no Python."""

    def __init__(self, folder):
        self.project = folder / "a project"
        self.bin = folder / "bin"
        self.root = folder / "root"  # stands before /usr/local and /dev
        self.home = folder / "home"
        self.log = folder / "calls"
        (self.project / "test").mkdir(parents=True)
        for path in (self.bin, self.root, self.home):
            path.mkdir()
        files = "test/env.sh test/env_horovod.sh test/constraints.txt requirements.txt"
        for name in files.split():
            shutil.copy(str(ROOT / name), str(self.project / name))
        for name in TOOLS.split():
            found = shutil.which(name)
            if found:
                (self.bin / name).symlink_to(found)
        self.uname("Linux", "x86_64")

    def script(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def uname(self, system, machine):
        self.script(
            self.bin / "uname",
            '#!/usr/bin/env bash\n[[ "$1" == -s ]] && echo "{}" || echo "{}"\n'.format(
                system, machine
            ),
        )

    def python(self, path, words):
        """Puts a fake interpreter there; words: what env.sh is to find out of it."""
        return self.script(
            self.bin / path, FAKE_PYTHON.format(log=self.log, words=words)
        )

    def file(self, path, text=""):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    @property
    def venv(self):
        return self.project / ".venv"

    def flag(self, name):
        return pathlib.Path("{}.{}".format(self.log, name))

    def calls(self, part=""):
        """How often an interpreter was started with `part` among its arguments."""
        if not self.log.exists():
            return 0
        return sum(part in line for line in self.log.read_text().splitlines())

    def start(self, *then, **variables):
        """Sources env.sh as the launchers do; prints PYTHON, then runs `then`."""
        command = "; ".join(
            ["set -euo pipefail", "source test/env.sh", 'echo "$PYTHON"', *then]
        )
        environment = {
            "PATH": str(self.bin),
            "HOME": str(self.home),
            "SWA_FAKE_ROOT": str(self.root),
        }
        environment.update(variables)
        return subprocess.Popen(
            [str(self.bin / "bash"), "-c", command],
            cwd=str(self.project),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            preexec_fn=os.setsid,
        )

    def source(self, *then, **variables):
        """Returns (status, lines of stdout, stderr)."""
        process = self.start(*then, **variables)
        out, err = process.communicate(timeout=60)
        return process.returncode, out.splitlines(), err

    def chosen(self, **variables):
        status, lines, err = self.source(**variables)
        assert status == 0, err
        return pathlib.Path(lines[0])

    def refusal(self, **variables):
        """The one message of a run that must exit 2 without any download."""
        status, lines, err = self.source(**variables)
        assert (status, lines) == (2, []), err
        assert err.count("error:") == 1
        assert self.calls("pip") == 0 and not self.venv.exists()
        return err


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


# ------------------------------------------------------------ which interpreter


def test_the_users_python_is_taken_when_it_has_tensorflow(machine):
    mine = machine.python("../mine/python", "3.6 tensorflow")
    machine.python("python3.7", "3.7 venv tensorflow")
    assert machine.chosen(PYTHON=str(mine)).resolve() == mine.resolve()
    assert machine.calls() == 1


def test_the_users_python_may_be_a_name_on_path(machine):
    path = machine.python("mypython", "3.7 tensorflow")
    assert machine.chosen(PYTHON="mypython") == path


def test_venv_is_built_from_the_users_python_37(machine):
    machine.python("python3.7", "3.7 venv")
    mine = machine.python("mine", "3.7 venv")
    assert machine.chosen(PYTHON=str(mine)) == machine.venv / "bin/python"
    assert machine.calls("{} -m venv".format(mine)) == 1


@pytest.mark.parametrize("words, said", [("3.9 venv", "3.9"), ("", "does not run")])
def test_a_users_python_that_cannot_do_is_refused(machine, words, said):
    mine = machine.python("mine", words)
    machine.python("python3.7", "3.7 venv")
    message = machine.refusal(PYTHON=str(mine))
    assert said in message and "PYTHON={}".format(mine) in message


def test_a_users_python_that_is_not_there_is_refused(machine):
    assert "PYTHON=nowhere" in machine.refusal(PYTHON="nowhere")


@pytest.mark.parametrize("name", ["python3", "python3.7"])
def test_a_python_on_path_with_tensorflow_is_taken(machine, name):
    path = machine.python(name, "3.7 venv tensorflow")
    assert machine.chosen() == path
    assert not machine.venv.exists()


def test_the_images_python_is_taken(machine):
    machine.python("python3", "3.11 venv")
    image = machine.python(
        machine.root / "usr/local/python3.7.5/bin/python3", "3.7 tensorflow"
    )
    assert machine.chosen() == image


def test_tensorflow_installed_later_is_preferred_to_venv(machine):
    path = machine.python("python3.7", "3.7 venv")
    assert machine.chosen() == machine.venv / "bin/python"
    machine.python("python3.7", "3.7 venv tensorflow")
    (path.parent.parent / "lib/python3.7/site-packages/tensorflow").mkdir(parents=True)
    assert machine.chosen() == path


def test_a_shim_that_fails_is_passed_over_for_the_versions_of_pyenv(machine):
    machine.script(machine.bin / "python3.7", "#!/usr/bin/env bash\nexit 127\n")
    version = machine.home / ".pyenv/versions/3.7.16/bin/python3.7"
    machine.python(version, "3.7 venv")
    assert machine.chosen() == machine.venv / "bin/python"
    assert machine.calls("{} -m venv".format(version)) == 1


def test_uv_fetches_python_37_where_there_is_none(machine):
    machine.python("python3", "3.11 venv")
    machine.python(machine.flag("uv-python"), "3.7 venv")
    assert machine.chosen() == machine.venv / "bin/python"
    assert machine.calls("cpython-3.7.9/bin/python3.7 -m venv") == 1


@pytest.mark.parametrize("other", [None, "3.11 venv"], ids=["no python", "python 3.11"])
def test_no_python_37_at_all_says_how_to_get_it(machine, other):
    if other:
        machine.python("python3", other)  # its uv finds no Python 3.7
    status, lines, err = machine.source()
    assert (status, lines) == (2, [])
    assert err.count("error:") == 1
    assert "Python 3.7" in err and "pyenv install" in err and "PYTHON=" in err


@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full"])
def test_a_refusal_that_cannot_be_said_has_its_status(machine, end):
    command = f"set -e; source test/env.sh {end}"
    environ = {"PATH": str(machine.bin), "HOME": str(machine.home), "PYTHON": "none"}
    bash = [str(machine.bin / "bash"), "-c", command]
    done = subprocess.run(bash, cwd=str(machine.project), env=environ)
    assert done.returncode == 2


def test_an_interactive_shell_survives_a_refusal(machine):
    process = subprocess.run(
        [str(machine.bin / "bash"), "-c", "source test/env.sh; echo status $?"],
        cwd=str(machine.project),
        env={"PATH": str(machine.bin), "HOME": str(machine.home), "PYTHON": "nowhere"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert process.stdout == "status 2\n"


# ------------------------------------------- the question put to an interpreter


@pytest.mark.parametrize(
    "metadata, version, accepted",
    [
        ("tensorflow-1.15.0.dist-info", None, True),
        ("tensorflow_cpu-1.15.5.dist-info", None, True),
        ("tensorflow-2.4.0.dist-info", None, False),
        ("tensorflow_estimator-1.15.1.dist-info", "1.14.0", False),
        (None, "1.15.0", True),
    ],
)
def test_tensorflow_115_is_told_from_others(machine, metadata, version, accepted):
    packages = machine.root / "packages"
    module = machine.file("packages/tensorflow/__init__.py")
    if version:
        module.write_text("__version__ = {!r}\n".format(version))
    else:
        module.write_text("raise RuntimeError('imported, which takes seconds')\n")
    if metadata:
        (packages / metadata).mkdir()
    machine.uname("Linux", "riscv64")  # where nothing can be built instead
    variables = {"PYTHON": sys.executable, "PYTHONPATH": str(packages)}
    if accepted:
        assert machine.chosen(**variables) == pathlib.Path(sys.executable)
    else:
        assert "TensorFlow 1.15" in machine.refusal(**variables)


# ------------------------------------------------------------------------ .venv


def test_a_ready_venv_is_used_without_starting_an_interpreter(machine):
    machine.python("python3.7", "3.7 venv")
    machine.chosen()
    before = machine.calls()
    assert machine.chosen() == machine.venv / "bin/python"
    assert machine.calls() == before


def test_a_build_killed_in_the_middle_is_begun_anew(machine):
    machine.python("python3.7", "3.7 venv")
    machine.flag("pip-hangs").write_text("")
    process = machine.start()
    while not machine.flag("pip-began").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    leftover = machine.venv / "leftover"
    leftover.write_text("")

    machine.flag("pip-hangs").unlink()
    assert machine.chosen() == machine.venv / "bin/python"
    assert not leftover.exists()
    assert machine.calls("-m venv") == 2


def test_a_half_built_venv_is_not_taken_for_an_interpreter_on_path(machine):
    machine.python("python3.7", "3.7 venv")
    half = machine.python(machine.venv / "bin/python3", "3.7 tensorflow").parent
    path = "{}:{}".format(half, machine.bin)
    assert machine.chosen(PATH=path) == machine.venv / "bin/python"
    assert machine.calls("-m venv") == 1


def test_a_half_built_venv_named_by_the_user_is_rebuilt(machine):
    machine.python("python3.7", "3.7 venv")
    half = machine.python(machine.venv / "bin/python", "3.7 venv tensorflow")
    assert machine.chosen(PYTHON=str(half)) == half
    assert machine.calls("-m venv") == 1


@pytest.mark.parametrize("pins", ["requirements.txt", "test/constraints.txt"])
def test_changed_pins_build_venv_anew(machine, pins):
    machine.python("python3.7", "3.7 venv")
    machine.chosen()
    with open(str(machine.project / pins), "a") as file:
        file.write("# another pin\n")
    machine.chosen()
    assert machine.calls("-m venv") == 2


@pytest.mark.parametrize("lock", ["flock", "link"])
def test_two_launchers_at_once_build_venv_once(machine, lock):
    if lock == "link":
        (machine.bin / "flock").unlink()
    machine.python("python3.7", "3.7 venv")
    processes = [machine.start() for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.strip() == str(machine.venv / "bin/python")
    assert machine.calls("-m venv") == 1


def test_the_lock_of_a_killed_launcher_is_taken_over(machine):
    (machine.bin / "flock").unlink()
    machine.python("python3.7", "3.7 venv")
    dead = subprocess.Popen([str(machine.bin / "bash"), "-c", "exit"])
    dead.wait()
    lock = machine.project / ".venv.lock.held"
    lock.symlink_to("pid:{}".format(dead.pid))
    assert machine.chosen() == machine.venv / "bin/python"
    assert not os.path.lexists(str(lock))


def test_a_failing_pip_is_told_and_tried_again(machine):
    machine.python("python3.7", "3.7 venv")
    machine.flag("pip-fails").write_text("")
    status, lines, err = machine.source()
    assert (status, lines) == (2, []) and "requirements.txt" in err
    machine.flag("pip-fails").unlink()
    assert machine.chosen() == machine.venv / "bin/python"


@pytest.mark.parametrize(
    "system, processor, advice",
    [
        ("Linux", "aarch64", "ascend-tensorflow-arm"),
        ("Darwin", "arm64", "Apple silicon"),
        ("MINGW64_NT-10.0", "x86_64", "WSL2"),
        ("MSYS_NT-10.0", "x86_64", "WSL2"),
        ("Linux", "riscv64", "riscv64"),
    ],
)
def test_platforms_without_a_wheel_are_told_at_once(machine, system, processor, advice):
    machine.uname(system, processor)
    machine.python("python3.7", "3.7 venv")
    assert advice in machine.refusal()


def test_a_platform_without_a_wheel_may_have_its_own_tensorflow(machine):
    machine.uname("Linux", "aarch64")
    path = machine.python("python3.7", "3.7 tensorflow")
    assert machine.chosen() == path


def test_only_names_in_the_constraints_pin_what_is_required():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    names = {line.split(">")[0].split("<")[0] for line in lines if line[:1] not in "#"}
    pinned = {
        line.split("==")[0]
        for line in (ROOT / "test/constraints.txt").read_text().splitlines()
    }
    assert names - {""} <= pinned
    assert not any(line.startswith("npu_bridge") for line in lines)


# ------------------------------------------------------------------------- CANN


@pytest.mark.parametrize(
    "sign",
    ["usr/local/Ascend/driver/version.info", "dev/davinci0", "home/Ascend/opp/x"],
)
@pytest.mark.parametrize("words", ["3.7 venv", "3.11 venv"])
def test_beside_cann_venv_is_never_built(machine, sign, words):
    machine.file(sign)
    machine.python("python3.7", words)
    home = str(machine.root / "home")
    message = machine.refusal(HOME=home)
    assert "TensorFlow 1.15" in message and "PYTHON" in message
    assert str(machine.root) in message  # what was found
    machine.refusal(HOME=home, SWA_DEVICE="cpu")


def test_a_venv_of_earlier_days_is_not_used_beside_cann(machine):
    machine.python("python3.7", "3.7 venv")
    machine.chosen()
    machine.file("dev/davinci0")
    status, _, err = machine.source()
    assert status == 2 and "davinci0" in err
    assert machine.chosen(SWA_DEVICE="cpu") == machine.venv / "bin/python"


def test_npu_bridge_alone_is_a_sign_of_cann(machine):
    machine.python("python3.7", "3.7 venv npu_bridge")
    assert "npu_bridge" in machine.refusal()


@pytest.mark.parametrize("device", ["auto", "npu"])
def test_missing_npu_bridge_beside_cann_is_refused(machine, device):
    machine.file("dev/davinci0")
    path = machine.python("python3.7", "3.7 venv tensorflow")
    message = machine.refusal(SWA_DEVICE=device)
    assert "npu_bridge" in message and str(path) in message
    assert machine.chosen(SWA_DEVICE="cpu") == path


def test_a_whole_installation_is_taken(machine):
    machine.file("dev/davinci0")
    path = machine.python("python3.7", "3.7 venv tensorflow npu_bridge")
    assert machine.chosen() == path


@pytest.mark.parametrize("toolkit", ["ascend-toolkit", "nnae"])
def test_scripts_of_cann_5_are_sourced_in_order(machine, toolkit):
    ascend = "usr/local/Ascend/"
    script = 'echo noise $SURELY_UNSET\nexport ORDER="${{ORDER}}{}"\nfalse\n'
    machine.file(ascend + toolkit + "/set_env.sh", script.format("toolkit "))
    machine.file(ascend + "tfplugin/set_env.sh", script.format("plugin"))
    machine.python("python3.7", "3.7 tensorflow npu_bridge")
    status, lines, err = machine.source('echo "$ORDER"', "echo $-")
    assert status == 0, err
    assert lines[1] == "toolkit plugin"
    assert "u" in lines[2] and "e" in lines[2]


def test_the_users_own_cann_comes_before_the_machines(machine):
    own = machine.file("opt/ascend-toolkit/set_env.sh", "export FROM=own\n")
    machine.file("usr/local/Ascend/ascend-toolkit/set_env.sh", "export FROM=system\n")
    machine.file("usr/local/Ascend/tfplugin/set_env.sh", "export PLUGIN=system\n")
    machine.python("python3.7", "3.7 tensorflow npu_bridge")
    home = str(own.parent / "latest")
    _, lines, _ = machine.source("echo $FROM $PLUGIN", ASCEND_TOOLKIT_HOME=home)
    assert lines[1:] == ["own system"]


@pytest.mark.parametrize("layout", ["", "ascend-toolkit/latest/", "nnae/latest/"])
def test_variables_of_cann_20_are_exported(machine, layout):
    ascend = machine.root / "usr/local/Ascend"
    toolkit = ascend / layout
    parts = ["bin", "ccec_compiler/bin", "lib64", "python/site-packages"]
    folders = [toolkit / "fwkacllib" / part for part in parts]
    plugin = ascend / "tfplugin/latest/tfplugin/python/site-packages"
    driver = ascend / "driver/lib64/common"
    for folder in [*folders, plugin, driver]:
        folder.mkdir(parents=True)
    machine.python("python3.7", "3.7 tensorflow npu_bridge")
    names = ["PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "ASCEND_OPP_PATH"]
    status, lines, err = machine.source(*('echo "${}"'.format(n) for n in names))
    assert status == 0, err
    path, libraries, packages, operators = lines[1:]
    assert path.split(":") == [str(folders[1]), str(folders[0]), str(machine.bin)]
    assert libraries.split(":") == [
        str(folders[2]),
        str(ascend / "driver/lib64/common"),
    ]
    assert packages.split(":") == [str(plugin), str(folders[3])]
    assert operators == str(toolkit / "opp")


@pytest.mark.parametrize(
    "folder", ["", "tfplugin", "tfplugin/latest", "npu_bridge-1.15.0", "mine/latest"]
)
def test_the_folder_of_the_plug_ins_wheel_is_found(machine, folder):
    ascend = machine.root / "usr/local/Ascend"
    machine.file("usr/local/Ascend/ascend-toolkit/set_env.sh", "export FROM=toolkit\n")
    (ascend / folder / "npu_bridge").mkdir(parents=True)
    machine.python("python3.7", "3.7 tensorflow npu_bridge")
    status, lines, err = machine.source('echo "$FROM $PYTHONPATH"')
    assert status == 0, err
    assert lines[1] == f"toolkit {ascend / folder}"


def test_the_variable_of_the_plug_ins_folder_comes_first(machine):
    mine = machine.file("mine/npu_bridge/__init__.py").parent.parent
    machine.file("usr/local/Ascend/tfplugin/npu_bridge/__init__.py")
    machine.python("python3.7", "3.7 tensorflow npu_bridge")
    _, lines, _ = machine.source('echo "$PYTHONPATH"', TFPLUGIN_INSTALL_PATH=str(mine))
    assert lines[1] == str(mine)


def test_a_plug_in_that_the_user_has_put_in_the_path_stays_first(machine):
    mine = machine.file("mine/npu_bridge/__init__.py").parent.parent
    machine.file("usr/local/Ascend/tfplugin/npu_bridge/__init__.py")
    machine.python("python3.7", "3.7 tensorflow npu_bridge")
    path = f"/elsewhere:{mine}"
    _, lines, _ = machine.source('echo "$PYTHONPATH"', PYTHONPATH=path)
    assert lines[1] == path


def test_the_newest_toolkits_script_is_sourced(machine):
    machine.file("usr/local/Ascend/cann/set_env.sh", "export FROM=cann\n")
    machine.python("python3.7", "3.7 tensorflow npu_bridge")
    _, lines, _ = machine.source("echo $FROM")
    assert lines[1:] == ["cann"]


# ---------------------------------------------------------------------- Horovod

# Can import horovod once its folder is on PYTHONPATH, but not where warnings are errors
# or docstrings are dropped; pip makes what it is asked for.
HOROVOD_PYTHON = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"{log}"
case "$*" in
  *"import horovod"*)
    [[ "${{PYTHONPATH:-}}" == *.venv-horovod* && ! -e "{log}.broken" &&
      -z "${{PYTHONWARNINGS:-}}${{PYTHONOPTIMIZE:-}}" ]]
    ;;
  *"import platform"*) echo "-tf1.15.0-py3.7-x86_64" ;;
  "-m pip wheel"*)
    while [[ "$1" != -w ]]; do shift; done
    touch "$2/psutil.whl"
    if [[ -e "{log}.pip-fails" ]]; then echo "no cmake file"; exit 1; fi
    touch "$2/horovod-0.28.1.whl"
    ;;
  "-m pip install"*)
    while [[ "$1" != --target ]]; do shift; done
    mkdir -p "$2"
    ;;
  *) echo "3.7 tensorflow" ;;
esac
"""
USE_HOROVOD = (
    "source test/env_horovod.sh",
    "swa_use_horovod",
    'echo "$PYTHONPATH"',
)
NO_CMAKE = '#!/usr/bin/env bash\necho "cmake version {}"\n'


@pytest.fixture
def builder(machine):
    """The machine with compilers and a Python whose pip can build Horovod."""
    for tool in ("g++", "make"):
        machine.script(machine.bin / tool, "")
    machine.script(machine.bin / "cmake", NO_CMAKE.format("3.13.4"))
    machine.script(machine.bin / "python3.7", HOROVOD_PYTHON.format(log=machine.log))
    return machine


def test_horovod_is_built_at_its_first_use_alone(builder):
    status, _, err = builder.source()
    assert (status, builder.calls("-m pip")) == (0, 0), err
    for _ in range(2):
        status, lines, err = builder.source(*USE_HOROVOD)
        assert status == 0, err
        site = pathlib.Path(lines[1])
        assert site.parent == builder.project / ".venv-horovod"
    assert builder.calls("pip wheel") == builder.calls("pip install") == 1


def test_a_build_says_before_it_what_is_built_how_long_and_where(builder):
    status, lines, err = builder.source(*USE_HOROVOD)
    assert (status, err.count("\n")) == (0, 1)
    assert err.startswith("test/env.sh: building horovod==0.28.1, which joins ranks")
    assert "in about four minutes" in err
    assert str(builder.project / ".venv-wheels") in err and lines[1] in err


@pytest.mark.parametrize("name, value", [("WARNINGS", "error"), ("OPTIMIZE", "2")])
def test_pythons_variables_do_not_hide_a_horovod_that_is_there(builder, name, value):
    builder.source(*USE_HOROVOD)
    status, _, err = builder.source(*USE_HOROVOD, **{"PYTHON" + name: value})
    assert (status, err) == (0, "")
    assert builder.calls("pip install") == 1


def test_the_wheel_serves_a_later_environment(builder):
    builder.source(*USE_HOROVOD)
    shutil.rmtree(str(builder.project / ".venv-horovod"))
    for tool in ("g++", "make", "cmake"):
        (builder.bin / tool).unlink()
    status, _, err = builder.source(*USE_HOROVOD)
    assert status == 0, err
    assert builder.calls("pip wheel") == 1 and builder.calls("pip install") == 2


def test_wheels_may_be_kept_outside_of_the_project(builder):
    elsewhere = builder.home / "wheels"
    builder.source(*USE_HOROVOD, SWA_WHEELS=str(elsewhere))
    assert list(elsewhere.glob("*/horovod-0.28.1.whl"))
    assert not (builder.project / ".venv-wheels").exists()


def test_nothing_is_built_for_an_npu_that_is_not_there(builder):
    builder.script(builder.bin / "python3.7", 'echo "3.7 venv"')
    status, lines, err = builder.source(SWA_DEVICE="npu")
    assert (status, lines, err.count("\n")) == (2, [], 1)
    assert "--device=npu needs an Ascend NPU" in err
    assert not (builder.project / ".venv").exists()


def test_as_a_program_it_prints_the_path_that_finds_horovod(builder):
    status, lines, err = builder.source("bash test/env_horovod.sh")
    assert status == 0, err
    assert pathlib.Path(lines[1]).parent == builder.project / ".venv-horovod"


def test_a_horovod_that_is_there_is_taken(builder):
    variables = {"PYTHONPATH": "/somebody's/.venv-horovod"}
    status, lines, err = builder.source(*USE_HOROVOD, **variables)
    assert (status, lines[1]) == (0, variables["PYTHONPATH"]), err
    assert builder.calls("-m pip") == 0


@pytest.mark.parametrize(
    "missing, cmake, said",
    [
        ("g++", "3.25.1", "missing: g++."),
        ("make", "3.25.1", "missing: make."),
        ("cmake", None, "missing: cmake."),
        (None, "3.12.9", "missing: cmake >= 3.13 (this one is 3.12.9)."),
        (None, "2.99", "missing: cmake >= 3.13 (this one is 2.99)."),
    ],
)
def test_without_compilers_horovod_is_refused_at_once(builder, missing, cmake, said):
    if cmake:
        builder.script(builder.bin / "cmake", NO_CMAKE.format(cmake))
    if missing:
        (builder.bin / missing).unlink()
    status, lines, err = builder.source(*USE_HOROVOD)
    assert (status, len(lines)) == (2, 1)
    assert said in err and "test/train_full_1p.sh" in err
    assert builder.calls("-m pip") == 0


def test_a_failed_build_is_told_and_tried_again(builder):
    builder.flag("pip-fails").touch()
    status, _, err = builder.source(*USE_HOROVOD)
    assert status == 2 and "no cmake file" in err
    builder.flag("pip-fails").unlink()
    status, _, err = builder.source(*USE_HOROVOD)
    assert status == 0, err
    assert builder.calls("pip wheel") == 2


def test_a_horovod_that_cannot_be_imported_is_told(builder):
    builder.flag("broken").touch()
    status, _, err = builder.source(*USE_HOROVOD)
    assert status == 2 and "is built but cannot be used" in err


# ----------------------------------------------------------------- run_tests.sh

# Has all that the tests need, and a real Python for run_tests.py; ruff and pytest end
# as the variables RUFF and PYTEST say.
TEST_PYTHON = """#!/usr/bin/env bash
case "$*" in
  *run_tests.py*) exec "@PYTHON@" "$@" ;;
  *hypothesis*) echo "${LACKS:-}" ;;
  "-m ruff check"*) echo "ruff at work"; exit "${RUFF:-0}" ;;
  "-m ruff format --check"*) echo "formatter at work"; exit "${FORMAT:-0}" ;;
  "-m pytest"*) echo "args: ${*:3}"; echo "1 passed"; exit "${PYTEST:-0}" ;;
  *) echo "3.7 tensorflow" ;;
esac
"""


@pytest.fixture
def run_tests(machine):
    """Calls run_tests.sh from elsewhere; returns (status, lines of stdout)."""
    shutil.copy(str(ROOT / "test/run_tests.sh"), str(machine.project / "test"))
    (machine.project / "test/support").mkdir()
    shutil.copy(
        str(ROOT / "test/support/run_tests.py"), str(machine.project / "test/support")
    )
    shutil.copy(str(ROOT / "pyproject.toml"), str(machine.project))
    (machine.project / "test/test_law.py").write_text("import hypothesis\n")
    python = machine.script(
        machine.bin / "mine", TEST_PYTHON.replace("@PYTHON@", sys.executable)
    )
    machine.script(
        machine.bin / "shellcheck", "#!/usr/bin/env bash\nexit $SHELLCHECK\n"
    )

    def run(*arguments, **variables):
        environment = {"PATH": str(machine.bin), "HOME": str(machine.home)}
        environment.update(PYTHON=str(python), SWA_FAKE_ROOT=str(machine.root))
        environment.update(SHELLCHECK="0")
        environment.update(variables)
        done = subprocess.run(
            ["bash", str(machine.project / "test/run_tests.sh"), *arguments],
            cwd=str(machine.home),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            universal_newlines=True,
        )
        return done.returncode, done.stdout.splitlines()

    return run


def test_without_arguments_all_tools_run_and_pytest_has_the_last_word(run_tests):
    status, lines = run_tests()
    assert status == 0
    assert "ruff at work" in lines and "formatter at work" in lines
    assert "run_tests.sh: shellcheck" in lines
    assert lines[-1] == "1 passed"


@pytest.mark.parametrize("tool", ["RUFF", "FORMAT", "SHELLCHECK", "PYTEST"])
def test_any_tool_that_finds_fault_fails_the_whole(run_tests, tool):
    status, lines = run_tests(**{tool: "1"})
    assert status == 1
    assert lines[-1] == "1 passed"


def test_with_arguments_pytest_alone_runs(run_tests):
    status, lines = run_tests("-k", "one or two", RUFF="1")
    assert (status, lines) == (0, ["args: -k one or two", "1 passed"])


def test_what_is_skipped_for_want_of_a_package_is_named(run_tests):
    status, lines = run_tests(LACKS="hypothesis ruff")
    assert status == 0
    assert "run_tests.sh: skipped, not installed: ruff" in lines
    (line,) = [line for line in lines if "hypothesis is not installed" in line]
    assert line.endswith("test/test_law.py")
    (line,) = [line for line in lines if line.startswith("args: ")]
    assert line.startswith("args: --ignore=test/test_law.py ") and " -n " in line


def test_without_xdist_the_tests_run_one_after_the_other(run_tests):
    status, lines = run_tests(LACKS="xdist hypothesis")
    assert status == 0
    assert "args: --ignore=test/test_law.py --durations=10" in lines


def test_without_pytest_nothing_can_be_tested(run_tests):
    status, lines = run_tests(LACKS="pytest")
    assert status == 2 and "1 passed" not in lines


def test_distributed_is_no_argument_of_pytest(run_tests):
    status, lines = run_tests("--distributed-if-built", "-k", "one")
    assert (status, lines) == (0, ["args: -k one", "1 passed"])
    status, lines = run_tests("--distributed")
    assert status == 0 and "ruff at work" in lines
