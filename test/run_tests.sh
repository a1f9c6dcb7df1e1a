#!/usr/bin/env bash
# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
#
# usage: run_tests.sh [--distributed | --distributed-if-built] [pytest's arguments]
#
# Without pytest's arguments: ruff, shellcheck, then pytest; else pytest alone. The tests
# of several ranks on hosts need Horovod: --distributed builds it at the first use,
# --distributed-if-built runs them where that has happened. Else they are skipped.
set -euo pipefail

# tests choose their devices themselves: a broken NPU is no reason not to run them
export SWA_DEVICE=cpu
# shellcheck source=test/env_horovod.sh
source "$(dirname "${BASH_SOURCE[0]}")/env_horovod.sh"

say() {
  printf 'run_tests.sh: %s\n' "$*"
}

# Prints which of the test extra's modules PYTHON lacks.
missing_modules() {
  "${PYTHON}" -c '
import importlib.util, sys
print(*(name for name in sys.argv[1:] if not importlib.util.find_spec(name)))
' pytest hypothesis keras ruff sklearn
}

# Installs pyproject.toml's test extra into environment $1 with constraints $2, once
# for each set of pins. Offline the tests run with what is there.
install_test_extra() {
  local environment="$1" pinned="$2" package pins
  local stamp="${environment}/.test-pins"
  local -a packages=()
  # the extra's lines alone: swa itself is tested from the tree, never from a copy
  while IFS= read -r package; do
    packages+=("${package}")
  done < <(
    sed -n '/^test = \[$/,/^\]$/s/^ *"\(.*\)",$/\1/p' "${swa_root}/pyproject.toml"
  )
  pins="$(swa_pins "${pinned}") ${packages[*]}"
  if [[ "$(cat "${stamp}" 2>/dev/null)" == "${pins}" ]]; then return 0; fi
  say "installing the test extra into ${environment}"
  swa_pip_install "${environment}" --retries 1 "${packages[@]}" -c "${pinned}" || return
  printf '%s\n' "${pins}" >"${stamp}"
}

# Makes .venv-test over PYTHON, which belongs to the system or to the user and is left
# alone. A base's packages stay as they are, whatever their versions.
make_overlay() {
  local environment="$1" site base
  local pinned="${environment}/constraints.txt"
  local all="${swa_root}/test/constraints.txt"
  base="${PYTHON} $(swa_pins "${all}")"
  if [[ "$(cat "${environment}/.base" 2>/dev/null)" != "${base}" ]]; then
    say "making ${environment} over ${PYTHON}"
    rm -rf "${environment}"
    "${PYTHON}" -m venv --system-site-packages "${environment}" || return
    swa_pip_install "${environment}" --upgrade pip -c "${all}" 2>/dev/null || true
    site="$("${environment}/bin/python" -c \
      'import sysconfig; print(sysconfig.get_paths()["purelib"])')"
    # where PYTHON is a virtual environment, the system's packages are not its own
    "${PYTHON}" -c 'import sys; print(*filter(None, sys.path), sep="\n")' |
      grep -e '-packages$' >"${site}/base.pth" || true
    "${environment}/bin/python" -m pip list --format=freeze |
      sed 's/==.*/==/; s/_/-/g' >"${environment}/base.txt"
    grep -v -i -F -f "${environment}/base.txt" "${all}" >"${pinned}" || true
    printf '%s\n' "${base}" >"${environment}/.base"
  fi
  install_test_extra "${environment}" "${pinned}"
}

# Exports as PYTHON an interpreter with the test extra, as far as it can be had.
choose_test_python() {
  local environment="${swa_root}/.venv-test"
  if [[ "${PYTHON}" == "${swa_venv}"/* ]]; then
    (swa_lock && install_test_extra "${swa_venv}" "${swa_root}/test/constraints.txt") ||
      say "could not install the test extra"
  elif [[ -n "$(missing_modules)" ]]; then
    (swa_lock && make_overlay "${environment}") ||
      say "could not install the test extra"
    if [[ -f "${environment}/.base" ]]; then
      export PYTHON="${environment}/bin/python"
    fi
  fi
}

# Prints the name of a tool and runs it; sets `failed` where it finds fault.
check() {
  say "$1"
  "${@:2}" || failed=1
}

main() {
  local failed=0 missing module file shellcheck distributed=''
  local -a ignored=()
  case "${1:-}" in
    --distributed | --distributed-if-built)
      distributed="$1"
      shift
      ;;
  esac
  choose_test_python
  if [[ "${distributed}" == --distributed ]]; then
    swa_use_horovod || return
  elif [[ -n "${distributed}" ]] && swa_has_horovod; then
    swa_use_horovod || return
  fi
  cd "${swa_root}"
  PATH="$(dirname "${PYTHON}"):${PATH}"
  missing="$(missing_modules)"
  case " ${missing} " in
    *" pytest "*)
      say "pytest is not installed for ${PYTHON} and could not be fetched" >&2
      return 2
      ;;
  esac
  for module in ${missing}; do
    for file in $(grep -l -E "^(import|from) ${module}\b" test/test_*.py || true); do
      say "skipped, ${module} is not installed: ${file}"
      ignored+=("--ignore=${file}")
    done
  done

  if (($# == 0)); then
    case " ${missing} " in
      *" ruff "*) say "skipped, not installed: ruff" ;;
      *) check ruff "${PYTHON}" -m ruff check --quiet . ;;
    esac
    shellcheck="$(type -P shellcheck || true)"
    if [[ -z "${shellcheck}" ]]; then
      say "skipped, not installed: shellcheck"
    else
      check shellcheck "${shellcheck}" -x test/*.sh test/launcher/*.sh .ci/run
    fi
  fi
  "${PYTHON}" -m pytest ${ignored[@]+"${ignored[@]}"} "$@" </dev/null || failed="$?"
  return "${failed}"
}

main "$@"
