# shellcheck shell=bash
# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
#
# What the launchers of several ranks share. They differ in values only.

# shellcheck source=test/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

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

# Sets `own`, the options about ranks as --name=value, and `rest`, all others.
split_options() {
  own=()
  rest=()
  while (($#)); do
    case "$1" in
      -h | --help)
        print_rank_help
        rest=(--help)
        return
        ;;
      --rank_size=* | --hosts=* | --server_id=*)
        own+=("$1")
        ;;
      --rank_size | --hosts | --server_id)
        own+=("$1=${2:-}")
        if (($# > 1)); then shift; fi
        ;;
      *)
        rest+=("$1")
        ;;
    esac
    shift
  done
}

# The whole of a launcher of several ranks.
# Args: case (acc or perf), default number of epochs, the launcher's arguments.
train_ranks() {
  local case_suffix="$1" epochs="$2" engine
  local flags device output_dir resumes
  local -a own rest
  shift 2
  split_options "$@"
  parse_options "${epochs}" ${rest[@]+"${rest[@]}"}
  export SWA_DEVICE="${device}"
  # shellcheck source=test/env.sh
  source "${test_dir}/env.sh" || exit
  own+=("--device=${device}" "--case=${case_suffix}" "--output_dir=${output_dir}")
  if ((resumes)); then own+=(--resumes); fi
  engine="$("${PYTHON}" "${test_dir}/launch_ranks.py" --plan "${own[@]}")" || exit
  if [[ "${engine}" == horovod ]]; then
    swa_use_horovod || exit
  fi
  # one process less for signals to pass
  exec "${PYTHON}" "${test_dir}/launch_ranks.py" "${own[@]}" -- "${flags[@]}"
}
