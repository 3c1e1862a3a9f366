#!/usr/bin/env bash
# Trains on this machine: launch/local.sh CONFIG [key=value ...]
# PROCESSES=2 starts two processes that join each other, as two nodes would; PORT is where they meet.
set -euo pipefail

xlam=${XLAM:-xlam}
processes=${PROCESSES:-1}
# The flag profile for several GPUs, where there are some.
if [[ -z ${XLAM_XLA_PROFILE:-} ]] && (($(nvidia-smi -L 2>/dev/null | wc -l) > 1)); then
  export XLAM_XLA_PROFILE=h100
fi
if [[ $processes == 1 ]]; then
  exec "$xlam" train "$@"
fi

export XLAM_COORDINATOR=127.0.0.1:${PORT:-61500} XLAM_NUM_PROCESSES=$processes
ids=()
for ((i = 0; i < processes; i++)); do
  XLAM_PROCESS_ID=$i "$xlam" train "$@" &
  ids+=($!)
done
# A signal to this script is one to all of them; a trap ends `wait`, so it is asked again.
for signal in TERM INT USR1; do
  # shellcheck disable=SC2064
  trap "kill -s $signal ${ids[*]} 2>/dev/null || true" "$signal"
done
status=0
for id in "${ids[@]}"; do
  code=0
  wait "$id" || code=$?
  while kill -0 "$id" 2>/dev/null; do
    code=0
    wait "$id" || code=$?
  done
  ((status > 0)) || status=$code
done
exit "$status"
