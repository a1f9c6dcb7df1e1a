# shellcheck shell=bash
# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
#
# Horovod, which joins several ranks on hosts. To be sourced by bash: it gives the
# functions, and env.sh's choice of PYTHON. Run as a program, it has Horovod built where
# that is needed, and prints the PYTHONPATH that finds it; --if-built: builds nothing.

# shellcheck source=test/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh" || return 2 2>/dev/null || exit 2

# For several ranks on hosts alone, and so no part of .venv: it is built where it is
# first asked for, which takes compilers and minutes.
swa_horovod=(horovod==0.28.1 cloudpickle==2.2.1 packaging==24.0 psutil==7.2.2
  pyyaml==6.0.1)

# PYTHON without PYTHONWARNINGS, which may make errors of the packages' own warnings.
swa_python() {
  env -u PYTHONWARNINGS "${PYTHON}" "$@"
}

swa_can_import_horovod() {
  swa_python -c 'import horovod.tensorflow'
}

# Prints what a build of Horovod fits: itself, TensorFlow, Python and the processor.
swa_horovod_tag() {
  local words
  words="$(swa_python -c '
import platform, sys
import tensorflow
python = "py%d.%d" % sys.version_info[:2]
print("-tf".join(("", tensorflow.__version__)), python, platform.machine(), sep="-")
' 2>/dev/null)" || true
  printf '%s%s' "${swa_horovod[0]/==/-}" "${words// /_}"
}

# Where the wheels are kept: beside .venv, so that they outlive it; SWA_WHEELS may name
# a folder that outlives the checkout.
swa_wheels() {
  printf '%s/%s' "${SWA_WHEELS:-${swa_root}/.venv-wheels}" "$1"
}

# Whether Horovod can be had for PYTHON without building it.
swa_has_horovod() {
  local tag
  if swa_can_import_horovod >/dev/null 2>&1; then return 0; fi
  tag="$(swa_horovod_tag)"
  [[ -f "${swa_root}/.venv-horovod/${tag}/.ready" ||
    -n "$(swa_first "$(swa_wheels "${tag}")"/horovod-*.whl)" ]]
}

# Lets PYTHON import Horovod, by PYTHONPATH; builds it at the first use.
swa_use_horovod() {
  local tag site
  if swa_can_import_horovod >/dev/null 2>&1; then return 0; fi
  tag="$(swa_horovod_tag)"
  site="${swa_root}/.venv-horovod/${tag}"
  if [[ ! -f "${site}/.ready" ]]; then
    swa_install_horovod "${tag}" "${site}" || return
  fi
  export PYTHONPATH="${site}${PYTHONPATH:+:${PYTHONPATH}}"
}

# Refuses where the build's tools are missing, before anything is fetched.
swa_check_compilers() {
  local tool version=''
  local -a missing=()
  for tool in g++ make cmake; do
    if ! type -P "${tool}" >/dev/null; then missing+=("${tool}"); fi
  done
  if type -P cmake >/dev/null; then
    read -r _ _ version < <(cmake --version) || true
    if ! [[ "${version}" =~ ^([0-9]+)\.([0-9]+) ]] ||
      ((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] < 3013)); then
      missing+=("cmake >= 3.13 (this one is ${version:-unknown})")
    fi
  fi
  if ((${#missing[@]})); then
    swa_fail "several ranks on hosts need Horovod, and its build needs g++, make and" \
      "cmake >= 3.13; missing: ${missing[*]}. Install them (Debian: apt-get install" \
      "g++ make cmake), or train in one process (test/train_full_1p.sh)."
  fi
}

# pip of PYTHON, deaf to settings that would install elsewhere.
swa_pip() {
  env -u PYTHONWARNINGS -u PIP_TARGET -u PIP_PREFIX PIP_USER=0 \
    "${PYTHON}" -m pip "$1" -qq --disable-pip-version-check "${@:2}"
}

# Fills folder $2 for tag $1, from the wheels kept or newly built. A subshell: it holds
# the lock. What a killed build left behind has another name than what is looked for.
swa_install_horovod() (
  tag="$1" site="$2"
  swa_lock || exit
  if [[ -f "${site}/.ready" ]]; then exit 0; fi # another launcher was faster
  wheels="$(swa_wheels "${tag}")"
  log="${swa_root}/.venv-horovod.log"
  if [[ -z "$(swa_first "${wheels}"/horovod-*.whl)" ]]; then
    swa_check_compilers || exit
    swa_say "building ${swa_horovod[0]}, which joins ranks on hosts: once, in about four" \
      "minutes, into ${wheels} and ${site} (log: ${log})"
    rm -rf "${wheels}" "${wheels}.part"
    if ! mkdir -p "${wheels}.part"; then
      swa_fail "cannot write in $(dirname "${wheels}"); make it writable, or set" \
        "SWA_WHEELS to another folder."
      exit
    fi
    # without isolation, or the build would not see this TensorFlow
    if ! HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 \
      HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 \
      MAKEFLAGS="-j$(getconf _NPROCESSORS_ONLN 2>/dev/null || printf 1)" \
      swa_pip wheel --no-build-isolation --no-deps -w "${wheels}.part" \
      "${swa_horovod[@]}" >"${log}" 2>&1; then
      swa_fail "Horovod could not be built; the last lines of .venv-horovod.log:" \
        "$(tail -n 5 "${log}")"
      exit
    fi
    mv "${wheels}.part" "${wheels}"
  fi
  rm -rf "${site}"
  if ! swa_pip install --no-index --no-deps --target "${site}" "${wheels}"/*.whl \
    >"${log}" 2>&1 ||
    ! PYTHONPATH="${site}${PYTHONPATH:+:${PYTHONPATH}}" swa_can_import_horovod \
      >"${log}" 2>&1; then
    swa_fail "Horovod is built but cannot be used: $(tail -n 1 "${log}"). Remove" \
      "${wheels} to have it built again."
    exit
  fi
  touch "${site}/.ready"
)

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  if [[ "${1:-}" != --if-built ]] || swa_has_horovod; then swa_use_horovod || exit; fi
  printf '%s\n' "${PYTHONPATH:-}"
fi
