# shellcheck shell=bash
# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
#
# What the launchers share. They differ in values only.

test_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
trainer="$(dirname "${test_dir}")/train-tf.keras-npu.py"

# Exits 2 after one line on stderr.
refuse() {
  printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2
  exit 2
}

# Arg: default number of epochs.
print_help() {
  cat <<HELP
usage: bash $0 [--flag=value | --flag value] ...

Trains on the device that ASCEND_DEVICE_ID names (default 0); the results go to
output/\$ASCEND_DEVICE_ID under the current directory and replace earlier ones there.

parameter explain:
    --train_epochs             epochs to train, default is $1
    --batch_size, --batch      samples per batch, default is 16384
    --learning_rate            learning rate before SWA, default is 0.1
    --momentum                 momentum of SGD, default is 0.0
    --seed                     seed of data and weights, default is 2

    --start_epoch              first epoch of SWA, default is 3/4 of train_epochs
    --lr_schedule              manual/constant/cyclic, default is cyclic
    --swa_lr                   lowest SWA learning rate, or auto, default is 0.001
    --swa_lr2                  highest SWA learning rate, or auto, default is 0.003
    --swa_freq                 epochs per cycle, default is 3
    --verbose                  0 silent, 1 epochs, 2 also session options, default is 1

    --hidden_units             hidden units, default is 108
    --num_classes              classes, default is 108
    --num_features             features, default is 6
    --num_samples              training samples, default is 131072
    --data_path                source data of training: a directory (synthetic data) or
                               an .npz with x and y, default is ./

    --device                   where to train (auto/npu/cpu), default is auto
    --precision_mode           precision mode(allow_fp32_to_fp16/force_fp16/
                               must_keep_origin_dtype/allow_mix_precision), default is
                               allow_mix_precision
    --modify_mixlist           JSON file that changes the list of mixed precision
    --over_dump                whether to detect overflow, default is False
    --data_dump_flag           whether to dump data, default is 0
    --data_dump_step           steps to dump, default is 10
    --profiling                whether to profile, default is False
    --data_save_path           where dumps and profiles go, default is /home/data

    --output_dir               results go here instead
    --save_interval            epochs between two checkpoints, 0 for the end only,
                               default is 10
    --max_to_keep              checkpoints kept, default is 5
    --resume                   go on from the newest checkpoint in the output folder,
                               which is kept, and append to its log
    --tensorboard              whether to write figures for TensorBoard, default is
                               False
    -h/--help                  show help message
HELP
}

# Sets `flags` (the trainer's, paths absolute), `device`, `output_dir` and `resumes` (1
# where an earlier run may be wanted) from the arguments; exits after --help.
# Args: default number of epochs, the launcher's arguments.
parse_options() {
  local epochs="$1" name value
  local -a ignored=()
  shift
  flags=("--train_epochs=${epochs}" "--data_path=${PWD}/")
  device=auto
  output_dir=''
  resumes=0
  while (($#)); do
    case "$1" in
      -h | --help)
        print_help "${epochs}"
        exit 0
        ;;
      --*=*)
        name="${1%%=*}"
        value="${1#*=}"
        ;;
      --*)
        name="$1"
        if (($# == 1)) || [[ "$2" == --* || "$2" == -h ]]; then
          value='' # no value: for the trainer to judge
        else
          value="$2"
          set -- "$1=$2" "${@:3}"
        fi
        ;;
      *)
        name=''
        ;;
    esac
    case "${name}" in
      --data_path | --data_save_path | --modify_mixlist | --output_dir | --flagfile)
        # the run's working directory is its output folder, not the caller's
        if [[ -n "${value}" && "${value}" != /* ]]; then
          set -- "${name}=${PWD}/${value}" "${@:2}"
        fi
        ;;
    esac
    case "${name}" in
      --max_step | --train_steps | --modeldir | --loss_scale | --autotune | --bind_core)
        ignored+=("${name}")
        ;;
      --batch) flags+=("--batch_size${1#--batch}") ;;
      *) flags+=("$1") ;;
    esac
    case "${name}" in
      --device) device="${value}" ;;
      --output_dir) output_dir="${1#*=}" ;;
      --resume) if [[ "${value}" =~ ^([Ff].*|0)$ ]]; then resumes=0; else resumes=1; fi ;;
      --noresume) resumes=0 ;;
      --flagfile) if grep -Eqs '^ *--?resume' "${1#*=}"; then resumes=1; fi ;;
    esac
    shift
  done
  if ((${#ignored[@]})); then
    printf 'These options have no effect here: %s\n' "${ignored[*]}"
  fi
}

# Exports what the vendor's runtime reads, for one device.
set_up_one_device() {
  export ASCEND_DEVICE_ID="${ASCEND_DEVICE_ID:-0}"
  if ! [[ "${ASCEND_DEVICE_ID}" =~ ^(0|[1-9][0-9]*)$ ]]; then
    refuse "ASCEND_DEVICE_ID must be an integer of at least 0, got" \
      "'${ASCEND_DEVICE_ID}'. Unset it for device 0."
  fi
  if [[ -n "${RANK_TABLE_FILE+set}" ]]; then
    printf 'RANK_TABLE_FILE is unset: it would start HCCL, for one device too\n'
    unset RANK_TABLE_FILE
  fi
  export RANK_SIZE=1 RANK_ID=0 JOB_ID="${JOB_ID:-10087}"
}

# Makes the output folder, empty if it is the device's own. A folder that the user named
# may hold other things: there the run replaces its own files only.
prepare_output() {
  mkdir -p "${output_dir}"
  if [[ "${output_dir}" == "${default_output_dir}" ]] && ((!resumes)); then
    # the slash follows a link to another disk; the link itself stays. So does the lock:
    # of two runs that start at once, both must meet the same file
    find "${output_dir}/" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +
  fi
}

# Runs the command with its output shown and in log $1, behind what is there if the run
# `resumes`; returns its status. SIGINT, SIGTERM and SIGHUP are handed on to it, as
# often as they come.
run_logged() {
  local log="$1" run='' tee early='' status=0 next waiting=1
  shift
  if ((!${resumes:-0})); then : >"${log}"; fi
  trap 'hand_on INT' INT
  trap 'hand_on TERM' TERM
  trap 'hand_on HUP' HUP
  # job control: the run gets a process group of its own (a terminal's Ctrl-C reaches
  # it once, from here) and does not start with SIGINT ignored
  set -m
  # tee outlives the signals and a closed terminal: the run's last words are in the log
  exec 3> >(trap '' INT TERM HUP PIPE && exec tee -a "${log}")
  tee="$!"
  "$@" </dev/null >&3 2>&1 3>&- &
  run="$!"
  exec 3>&-
  set +m
  if [[ -n "${early}" ]]; then hand_on "${early}"; fi
  while ((waiting)); do # a signal ends `wait`, not the run
    waiting=0
    next=0
    wait "${run}" 2>/dev/null || next="$?"
    # 127 the second time: bash has given the status before
    if ((next != 127 || status == 0)); then status="${next}"; fi
  done
  # the last lines may still be on their way; but a process that the run left behind
  # could keep the pipe open for ever
  for _ in {1..50}; do
    kill -0 "${tee}" 2>/dev/null || break
    sleep 0.1
  done
  trap - INT TERM HUP
  return "${status}"
}

# Hands signal $1 on to the run of run_logged, now or when it has begun.
hand_on() {
  waiting=1
  if [[ -n "${run}" ]]; then
    kill -s "$1" "${run}" 2>/dev/null || true
  else
    early="$1"
  fi
}

# The whole of a single-device launcher.
# Args: case (acc or perf), default number of epochs, the launcher's arguments.
train_1p() {
  local case_suffix="$1" epochs="$2" status=0 log message
  local flags device output_dir default_output_dir resumes
  shift 2
  parse_options "${epochs}" "$@"
  set_up_one_device
  default_output_dir="${PWD}/output/${ASCEND_DEVICE_ID}"
  if [[ -z "${output_dir}" ]]; then
    output_dir="${default_output_dir}"
    flags+=("--output_dir=${output_dir}")
  fi
  export SWA_DEVICE="${device}"
  # shellcheck source=test/env.sh
  source "${test_dir}/env.sh" || exit

  # everything that can be wrong is found before an earlier run's output goes
  message="$(
    "${PYTHON}" "${trainer}" --check "${flags[@]}" </dev/null 2>&1 >/dev/null
  )" || status="$?"
  if ((status)); then
    printf '%s\n' "${message}" >&2
    exit "${status}"
  fi

  prepare_output
  cd "${output_dir}" || exit
  printf 'Device ID: %s\n' "${ASCEND_DEVICE_ID}"
  log="${output_dir}/train_${ASCEND_DEVICE_ID}.log"
  run_logged "${log}" "${PYTHON}" "${trainer}" "${flags[@]}" || status="$?"
  case "${status}" in
    129 | 130 | 143) exit "${status}" ;; # by a signal: the run has said how to go on
  esac
  if ((status)); then
    printf '%s: the run failed with status %s; the last lines of %s:\n' \
      "$(basename "$0")" "${status}" "${log}" >&2
    tail -n 20 "${log}" >&2
    exit "${status}"
  fi
  "${PYTHON}" "${test_dir}/zoo_summary.py" "${output_dir}" "${case_suffix}"
}
