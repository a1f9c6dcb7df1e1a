# shellcheck shell=bash
# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
#
# What the launchers share, as far as it must work without Python; test/launch.py does
# the rest. They differ in values only.

set +o posix # bash that is called sh
# not by cd, which prints an error where the working directory has been removed
test_dir="$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/..")"

# Exits 2 after one line on standard error, which may be closed or full.
refuse() {
  printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2 2>/dev/null || true
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
    --verbose                  0 only what went wrong, 1 stages and epochs, 2 session
                               options too, default is 1

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
    --memory_optimization      option of an NPU session(vendor/unset): OFF as the vendor
                               sets it, or unset, default is vendor
    --over_dump                whether to detect overflow, default is False
    --data_dump_flag           whether to dump data, default is False
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
    --check                    check flags, files and device, then stop
    -h/--help                  show help message
HELP
}

print_rank_help() {
  cat <<HELP
usage: bash $0 [--flag=value | --flag value] ...

Trains on several devices, one process each. On NPUs: those of RANK_TABLE_FILE, or the
first of this server. On CPUs: Horovod's ranks, built at the first use. The results go
to output/N of rank 0's device N, each rank's log to output/N/train_N.log.

ranks:
    --rank_size                processes: 2/4/8 on the NPUs of one server, any number on
                               CPUs, default is 8
    --server_id                on NPUs of several servers: this one in RANK_TABLE_FILE,
                               default is the one with an address of this machine
    --hosts                    on CPUs of several hosts: host:processes,..., such as
                               a:4,b:4, reached by ssh

--batch_size is that of all ranks together. The other flags are those of one device:

HELP
}

# The whole of a launcher.
# Args: case (acc or perf), devices (1, or 8 for several), default number of epochs, the
# launcher's arguments.
train() {
  local case_suffix="$1" devices="$2" epochs="$3" argument previous=''
  shift 3
  export SWA_DEVICE=auto
  for argument in "$@"; do
    case "${argument}" in
      -h | --h | --help)
        if [[ "${devices}" != 1 ]]; then print_rank_help; fi
        print_help "${epochs}"
        exit 0
        ;;
      --device=*) SWA_DEVICE="${argument#*=}" ;;
      *) if [[ "${previous}" == --device ]]; then SWA_DEVICE="${argument}"; fi ;;
    esac
    previous="${argument}"
  done
  if ! [[ "${PWD}" -ef . ]]; then
    refuse "the working directory has been removed. Change to another directory."
  fi
  # shellcheck source=test/env.sh
  source "${test_dir}/env.sh" || exit
  # one process less for signals to pass
  exec "${PYTHON}" "${test_dir}/launch.py" "$(basename "$0")" "${case_suffix}" \
    "${devices}" "${epochs}" "$@"
}
