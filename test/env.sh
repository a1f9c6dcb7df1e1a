# shellcheck shell=bash
# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
#
# Chooses the Python interpreter and exports it as PYTHON; sets up CANN where it is
# installed. Meant to be sourced, by bash; returns 2 after one message on failure.
#
# Reads: PYTHON (the user's choice), SWA_DEVICE (the launcher's --device), and
# SWA_FAKE_ROOT (tests only: stands before /usr/local and /dev).

unset CDPATH # or cd would go elsewhere, and print where
unset PYTHONOPTIMIZE # 2 drops the docstrings that TensorFlow 1.15 needs
swa_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
swa_venv="${swa_root}/.venv"

swa_fail() {
  swa_say "error: $*"
  return 2
}

# Standard error may be closed or full: no failure of what is said ends the set-up.
swa_say() {
  printf 'test/env.sh: %s\n' "$*" >&2 2>/dev/null || true
}

# ---------------------------------------------------------------- interpreters

# Prints what interpreter $1 has, as words among: its version (3.7), "tensorflow",
# "npu_bridge", "venv"; nothing if it does not run. TensorFlow is recognised by its
# metadata, since importing it takes seconds; protobuf 4 (what a bare
# `pip install tensorflow==1.15` brings) makes that import fail.
swa_probe() {
  "$1" -c '
import sys
sys.path = [p for p in sys.path if p]  # a folder named tensorflow here is no package
words = ["%d.%d" % sys.version_info[:2]]

def found(name):
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    # a bare folder of that name has no origin (Python 3.6: "namespace")
    return spec if spec and spec.origin not in (None, "namespace") else None

def version(spec):
    import glob, os, re
    site = os.path.dirname(os.path.dirname(spec.origin))
    for path in glob.glob(os.path.join(glob.escape(site), "tensorflow*-info")):
        match = re.match(r"tensorflow(?:_cpu|_gpu)?-([0-9.]+)", os.path.basename(path))
        if match:
            return match.group(1)
    import tensorflow  # built by hand, without metadata
    return tensorflow.__version__

try:
    from importlib.util import find_spec
    if all(found(name) for name in ("venv", "ensurepip")):
        words.append("venv")
    if found("npu_bridge"):
        words.append("npu_bridge")
    tensorflow = found("tensorflow")
    if tensorflow and all(found(name) for name in ("numpy", "absl")):
        from google import protobuf
        old = [int(n) for n in protobuf.__version__.split(".")[:2]] < [3, 21]
        if old and version(tensorflow).startswith("1.15."):
            words.append("tensorflow")
except Exception:
    pass
print(" ".join(words))
' 2>/dev/null </dev/null || true
}

# Whether the words $1 of swa_probe contain $2.
swa_has() {
  case " $1 " in
    *" $2 "*) return 0 ;;
  esac
  return 1
}

# Whether interpreter $1 may have TensorFlow or npu_bridge, by the look of the folders
# where packages lie: starting every interpreter on PATH would cost too much.
swa_may_have_packages() {
  local bin real prefix found entry
  local -a entries=()
  bin="$(dirname "$1")"
  real="$(dirname "$(readlink -f "$1" 2>/dev/null || printf '%s' "$1")")"
  # pyenv's shims stand beside the versions that they stand for
  for prefix in "${bin}/.." "${real}/.." "${bin}/../local" "${bin}/../versions"/* \
    "${HOME:-/}/.local"; do
    for found in "${prefix}"/lib*/python3*/*-packages/{tensorflow,npu_bridge}; do
      [[ -e "${found}" ]] && return 0
    done
  done
  IFS=: read -r -a entries <<<"${PYTHONPATH:-}" || true
  for entry in ${entries[@]+"${entries[@]}"}; do
    [[ -e "${entry}/tensorflow" || -e "${entry}/npu_bridge" ]] && return 0
  done
  return 1
}

# Prints the interpreters of this machine, one a line: PATH first, then the Ascend
# image's. The project's own environments are not among them.
swa_candidates() {
  local path
  {
    type -aP python3 python3.7 || true
    printf '%s\n' "${SWA_FAKE_ROOT:-}"/usr/local/python3.7.5/bin/python3{,.7}
  } | while IFS= read -r path; do
    case "${path}" in
      "${swa_root}"/.venv*) ;;
      /*) printf '%s\n' "${path}" ;;
      *) printf '%s\n' "${PWD}/${path}" ;;
    esac
  done
}

# ------------------------------------------------------------------------ CANN

# Prints the Ascend folders that exist: the user's own first, then the machine's.
swa_ascend_folders() {
  local folder part
  for folder in "${ASCEND_HOME:-}" "${ASCEND_HOME_PATH:-}" "${ASCEND_TOOLKIT_HOME:-}" \
    "${HOME:-}/Ascend" "${SWA_FAKE_ROOT:-}/usr/local/Ascend"; do
    folder="${folder%%/ascend-toolkit*}"
    folder="${folder%%/nnae*}"
    for part in ascend-toolkit nnae cann fwkacllib tfplugin opp driver; do
      if [[ -n "${folder}" && -d "${folder}/${part}" ]]; then
        printf '%s\n' "${folder}"
        break
      fi
    done
  done
}

# Prints the first of the paths that exists.
swa_first() {
  local path
  for path in "$@"; do
    if [[ -e "${path}" ]]; then
      printf '%s\n' "${path}"
      return 0
    fi
  done
}

# Puts folder $2 in front of the path variable $1, if it exists and is not there yet.
swa_prepend() {
  local old="${!1:-}"
  case ":${old}:" in
    *":$2:"*) ;;
    *) if [[ -d "$2" ]]; then export "$1=$2${old:+:${old}}"; fi ;;
  esac
}

# CANN 20.x has no script for all of it; its documents export these by hand.
swa_cann_20() {
  local folder="$1" toolkit
  toolkit="$(swa_first "${folder}"/{ascend-toolkit/latest,nnae/latest,.}/fwkacllib)"
  if [[ -n "${toolkit}" ]]; then
    toolkit="$(cd "$(dirname "${toolkit}")" && pwd)"
    swa_prepend PATH "${toolkit}/fwkacllib/bin"
    swa_prepend PATH "${toolkit}/fwkacllib/ccec_compiler/bin"
    swa_prepend LD_LIBRARY_PATH "${folder}/driver/lib64/driver"
    swa_prepend LD_LIBRARY_PATH "${folder}/driver/lib64/common"
    swa_prepend LD_LIBRARY_PATH "${toolkit}/fwkacllib/lib64"
    swa_prepend PYTHONPATH "${toolkit}/fwkacllib/python/site-packages"
    export ASCEND_OPP_PATH="${ASCEND_OPP_PATH:-${toolkit}/opp}"
    export ASCEND_AICPU_PATH="${ASCEND_AICPU_PATH:-${toolkit}}"
  fi
}

# Sources a script of the vendor's: they read unset variables, and their last status
# means nothing. Takes the path from a variable, for arguments would reach the script.
swa_source_vendor() {
  local had_u=
  case "$-" in *u*) had_u=yes ;; esac
  set +u
  # shellcheck source=/dev/null
  source "${swa_vendor_script}" >&2 || true
  if [[ -n "${had_u}" ]]; then set -u; fi
}

# Whether PYTHONPATH has the TensorFlow plug-in already.
swa_path_has_plugin() {
  local folder
  local -a folders=()
  IFS=: read -r -a folders <<<"${PYTHONPATH:-}" || true
  for folder in ${folders[@]+"${folders[@]}"}; do
    if [[ -n "${folder}" && -d "${folder}/npu_bridge" ]]; then return 0; fi
  done
  return 1
}

# Puts the TensorFlow plug-in in PYTHONPATH, by hand: folder $1 has no set_env.sh for it.
# From CANN 8 on it is a wheel, which pip installs into a folder of its own.
swa_plugin_by_hand() {
  local package
  if swa_path_has_plugin; then return 0; fi
  package="$(swa_first ${TFPLUGIN_INSTALL_PATH:+"${TFPLUGIN_INSTALL_PATH}"/npu_bridge} \
    "$1"/tfplugin{/latest/tfplugin,/latest,}/python/site-packages \
    "$1"/{,tfplugin/,tfplugin/latest/,*/,*/latest/}npu_bridge)"
  if [[ -n "${package}" ]]; then swa_prepend PYTHONPATH "${package%/npu_bridge}"; fi
}

# Sets up the toolkit and then the TensorFlow plug-in, each from the first folder
# that has it: a user's toolkit stands beside the machine's driver.
swa_set_up_cann() {
  local folder toolkit='' plugin='' swa_vendor_script
  while IFS= read -r folder; do
    [[ -n "${folder}" ]] || continue
    if [[ -z "${toolkit}" ]]; then
      toolkit="$(swa_first "${folder}"/{ascend-toolkit,nnae,cann}{,/latest}/set_env.sh)"
      if [[ -n "${toolkit}" ]]; then
        swa_vendor_script="${toolkit}"
        swa_source_vendor
      else
        swa_cann_20 "${folder}"
      fi
    fi
    if [[ -z "${plugin}" ]]; then
      plugin="$(swa_first "${folder}"/tfplugin{,/latest}/set_env.sh)"
      if [[ -n "${plugin}" ]]; then
        swa_vendor_script="${plugin}"
        swa_source_vendor
      else
        swa_plugin_by_hand "${folder}"
      fi
    fi
  done <<<"$1"
}

# ----------------------------------------------------------------------- .venv

# A hash of the pins; an environment built from other pins is built anew.
swa_pins() {
  cat "$@" | cksum
}

swa_venv_ready() {
  [[ -x "${swa_venv}/bin/python" && -f "${swa_venv}/.pins" ]] &&
    [[ "$(cat "${swa_venv}/.pins")" == \
      "$(swa_pins "${swa_root}/requirements.txt" "${swa_root}/test/constraints.txt")" ]]
}

# Takes the lock on the project's environments; it goes with the (sub)shell that took
# it. flock's lock is shared by children, so a pip that outlives its killed parent
# still holds it.
swa_lock() {
  local lock="${swa_root}/.venv.lock" holder said=
  if ! { : >>"${lock}"; } 2>/dev/null; then
    swa_fail "cannot write in ${swa_root}; make it writable, or set PYTHON to a" \
      "Python that has TensorFlow 1.15."
    return
  fi
  if type -P flock >/dev/null; then
    exec 9>>"${lock}"
    flock -n 9 && return 0
    swa_say "waiting for another set-up of the environment to end"
    flock 9
    return
  fi
  until ln -s "pid:$$" "${lock}.held" 2>/dev/null; do
    holder="$(readlink "${lock}.held" || true)"
    if [[ -n "${holder}" ]] && ! kill -0 "${holder#pid:}" 2>/dev/null; then
      rm -f "${lock}.held" # its holder was killed
      continue
    fi
    [[ -n "${said}" ]] || swa_say "waiting for another set-up of the environment to end"
    said=yes
    sleep 1
  done
  trap 'rm -f "${swa_root}/.venv.lock.held"' EXIT
}

# pip of environment $1, deaf to settings that would install elsewhere or that count
# packages outside as installed.
swa_pip_install() {
  local environment="$1"
  shift
  env -u PYTHONPATH -u PYTHONHOME -u PIP_TARGET -u PIP_PREFIX PIP_USER=0 \
    "${environment}/bin/python" -m pip install -qq --disable-pip-version-check \
    "$@" >&2
}

# Prints the first Python 3.7 that can make virtual environments; $1, if not empty, is
# the only one to consider.
swa_python37() {
  local candidate words
  {
    if [[ -n "$1" ]]; then
      printf '%s\n' "$1"
    else
      swa_candidates
      type -P python || true
      printf '%s\n' "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.7.*/bin/python3.7
      printf '%s\n' "${swa_root}"/.uv/python/*/bin/python3.7
    fi
  } | while IFS= read -r candidate; do
    [[ -x "${candidate}" ]] || continue
    words="$(swa_probe "${candidate}")"
    if swa_has "${words}" 3.7 && swa_has "${words}" venv; then
      printf '%s\n' "${candidate}"
      break
    fi
  done
}

# Prints a Python 3.7 fetched by uv, which is itself fetched into .uv. Always that one:
# from 0.7 on uv knows no Python 3.7. What they say goes to .uv.log.
swa_python37_from_uv() {
  local tools="${swa_root}/.uv" uv="${swa_root}/.uv/bin/uv" python
  if ! "${uv}" --version >/dev/null 2>&1; then
    python="$(type -P python3 || type -P python || true)"
    [[ -n "${python}" ]] || return 0
    rm -rf "${tools}"
    # a Python without ensurepip may still have pip
    { "${python}" -m venv "${tools}" && swa_pip_install "${tools}" 'uv>=0.6,<0.7'; } ||
      "${python}" -m pip install -qq --target "${tools}" 'uv>=0.6,<0.7' || return 0
  fi >"${swa_root}/.uv.log" 2>&1
  UV_PYTHON_INSTALL_DIR="${tools}/python" "${uv}" python install 3.7 \
    >>"${swa_root}/.uv.log" 2>&1 || return 0
  swa_python37 ''
}

# Says why no stock TensorFlow 1.15 can be installed here, before anything is fetched.
swa_check_platform() {
  local platform
  platform="$(uname -s) $(uname -m)"
  case "${platform}" in
    'Linux x86_64' | 'Linux amd64' | 'Darwin x86_64') ;;
    'Linux aarch64' | 'Linux arm64')
      swa_fail "TensorFlow 1.15 has no stock wheel for ${platform}; run in the" \
        "vendor's image (ascend-tensorflow-arm), or set PYTHON to a Python that has" \
        "TensorFlow 1.15."
      ;;
    'Darwin '*)
      swa_fail "TensorFlow 1.15 has no stock wheel for Apple silicon (${platform});" \
        "use an x86-64 Linux machine or container."
      ;;
    MINGW* | MSYS* | CYGWIN*)
      swa_fail "Windows (${platform}) is not supported directly; run in WSL2, with an" \
        "x86-64 Linux."
      ;;
    *)
      swa_fail "TensorFlow 1.15 has no stock wheel for ${platform}; use x86-64 Linux," \
        "or set PYTHON to a Python that has TensorFlow 1.15."
      ;;
  esac
}

# Builds .venv, from Python 3.7 $1 if that is not empty. A subshell: it holds the lock.
swa_build_venv() (
  base="$1"
  swa_check_platform || exit
  swa_lock || exit
  if swa_venv_ready; then exit 0; fi # another launcher was faster
  base="$(swa_python37 "${base}")"
  if [[ -z "${base}" && -n "$1" ]]; then
    swa_fail "PYTHON=$1 cannot make virtual environments; install its venv module" \
      "(python3.7-venv), or unset PYTHON."
    exit
  fi
  if [[ -z "${base}" ]]; then
    swa_say "no Python 3.7 here; fetching one with uv into .uv"
    base="$(swa_python37_from_uv)"
  fi
  if [[ -z "${base}" ]]; then
    swa_fail "TensorFlow 1.15 needs Python 3.7; none was found or could be fetched" \
      "(why: .uv.log). Install it (pyenv install 3.7, conda create -n py37" \
      "python=3.7, or the system's python3.7 and python3.7-venv) and run again with" \
      "PYTHON=/path/to/python3.7."
    exit
  fi
  swa_say "building .venv from ${base} (once, about a minute)"
  constraints="${swa_root}/test/constraints.txt"
  pins="$(swa_pins "${swa_root}/requirements.txt" "${constraints}")"
  rm -rf "${swa_venv}" # half-built, or of other pins
  if ! env -u PYTHONPATH -u PYTHONHOME "${base}" -m venv "${swa_venv}" >&2; then
    swa_fail "${base} -m venv failed (see above)."
    exit
  fi
  # the pip that comes with an old Python does not know today's wheels
  swa_pip_install "${swa_venv}" --upgrade pip -c "${constraints}" 2>/dev/null || true
  if ! swa_pip_install "${swa_venv}" -r "${swa_root}/requirements.txt" \
    -c "${constraints}"; then
    swa_fail "pip could not install requirements.txt (see above); check the network" \
      "and run again, or set PYTHON to a Python that has TensorFlow 1.15."
    exit
  fi
  # without PYTHONWARNINGS, which may make errors of TensorFlow's own warnings
  if ! env -u PYTHONPATH -u PYTHONWARNINGS "${swa_venv}/bin/python" \
    -c 'import tensorflow' >/dev/null 2>"${swa_venv}/import.log"; then
    swa_fail "TensorFlow 1.15 is installed but cannot be imported on this machine (it" \
      "needs a processor with AVX): $(tail -n 1 "${swa_venv}/import.log")"
    exit
  fi
  printf '%s\n' "${pins}" >"${swa_venv}/.pins"
)

# ---------------------------------------------------------------------- choice

# Chooses interpreter $1, whose words are $2, if it has TensorFlow; returns 1 if not. With
# Ascend software (npu: what was found) it must see npu_bridge, or the run would train on
# the host without a word; returns 2 after a message.
swa_take() {
  if swa_has "$2" npu_bridge; then npu="${npu:-npu_bridge}"; fi
  swa_has "$2" tensorflow || return 1
  if [[ -n "${npu}" && "${SWA_DEVICE:-auto}" != cpu ]] && ! swa_has "$2" npu_bridge; then
    swa_fail "${npu} is here, but $1 cannot find npu_bridge: install CANN's tfplugin or" \
      "source its set_env.sh (from CANN 8 on: put the folder that its wheel was" \
      "installed into in PYTHONPATH), or choose --device=cpu."
    return
  fi
  export PYTHON="$1"
}

swa_choose_python() {
  local ascend candidate words base='' pass look npu
  ascend="$(swa_ascend_folders)"
  swa_set_up_cann "${ascend}"
  npu="$(swa_first "${ascend%%$'\n'*}" "${SWA_FAKE_ROOT:-}"/dev/davinci*)"

  # 1. the user's; one inside .venv is left to step 3, which knows if .venv is whole
  candidate="${PYTHON:-}"
  if [[ -n "${candidate}" && "${candidate}" != "${swa_venv}"/* ]]; then
    base="$(type -P "${candidate}" || true)"
    words=
    if [[ -n "${base}" ]]; then
      base="$(cd "$(dirname "${base}")" && pwd)/$(basename "${base}")"
      words="$(swa_probe "${base}")"
    fi
    if [[ -z "${words}" ]]; then
      swa_fail "PYTHON=${candidate} does not run; set it to a Python 3.7, or unset it."
      return
    fi
    swa_take "${base}" "${words}" && return
    [[ $? == 1 ]] || return 2
    if ! swa_has "${words}" 3.7; then
      swa_fail "PYTHON=${candidate} is Python ${words%% *} and has no working" \
        "TensorFlow 1.15; set it to a Python 3.7, or unset it."
      return
    fi
  fi

  # 2. one that has TensorFlow; the likely ones first, the others only if .venv is not
  # there to be used
  if [[ -z "${base}" ]]; then
    for pass in likely unlikely; do
      if [[ "${pass}" == unlikely && -z "${npu}" ]] && swa_venv_ready; then break; fi
      while IFS= read -r candidate; do
        look=unlikely
        if swa_may_have_packages "${candidate}"; then look=likely; fi
        [[ "${look}" == "${pass}" ]] || continue
        swa_take "${candidate}" "$(swa_probe "${candidate}")" && return
        [[ $? == 1 ]] || return 2
      done < <(swa_candidates)
    done
  fi

  # 3. the project's own
  if ! swa_venv_ready || [[ -n "${npu}" && "${SWA_DEVICE:-auto}" != cpu ]]; then
    if [[ -n "${npu}" ]]; then
      swa_fail "${npu} is here, but no Python with TensorFlow 1.15, numpy and absl" \
        "was found (tried ${base:-PATH, /usr/local/python3.7.5}): set PYTHON to" \
        "the one that belongs to CANN. A .venv is never built beside CANN."
      return
    elif [[ "${SWA_DEVICE:-auto}" == npu ]]; then # nothing is built only to be refused
      swa_fail "--device=npu needs an Ascend NPU, found no /dev/davinci*, no CANN and" \
        "no npu_bridge. Use --device=cpu, or --device=auto."
      return
    fi
    swa_build_venv "${base}" || return
  fi
  export PYTHON="${swa_venv}/bin/python"
}

swa_choose_python
