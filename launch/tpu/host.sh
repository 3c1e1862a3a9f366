#!/usr/bin/env bash
# One host of a TPU VM slice, started by vm.sh: trains, and starts again what failed. With --detach it goes on by
# itself, in a session of its own, with its log in xlam.log and its process in xlam.pid.
set -uo pipefail

if [[ ${1:-} == --detach ]]; then
  shift
  if [[ -f xlam.pid ]] && kill -0 "$(cat xlam.pid)" 2>/dev/null; then
    echo "a run is going on already: process $(cat xlam.pid), see xlam.log" >&2
    exit 2
  fi
  setsid nohup "$0" "$@" >>xlam.log 2>&1 </dev/null &
  echo $! >xlam.pid
  echo "started as process $!; its log is $PWD/xlam.log"
  exit 0
fi

xlam=${XLAM:-.venv/bin/xlam}
restarts=${XLAM_RESTARTS:-3}
backoff=${XLAM_BACKOFF:-10} # seconds before the first restart; each further one waits twice as long, 300 at most
export XLAM_DISTRIBUTED=${XLAM_DISTRIBUTED:-tpu}

run='' asked=''
trap 'asked=yes; [[ -z $run ]] || kill -s TERM "$run" 2>/dev/null' TERM USR1

for ((attempt = 0; ; attempt++)); do
  "$xlam" train "$@" &
  run=$!
  wait "$run"
  status=$?
  # A trap ends `wait` while the run still saves.
  while kill -0 "$run" 2>/dev/null; do
    wait "$run"
    status=$?
  done
  # 0: done. 2: bad input; 3: failed for good; 4: the disk is full; 75: stopped by a signal, saved.
  case $status in 0 | 2 | 3 | 4 | 75) exit "$status" ;; esac
  if [[ -n $asked ]] || ((attempt >= restarts)); then exit "$status"; fi
  delay=$((backoff << attempt))
  ((delay <= 300)) || delay=300
  echo "xlam train ended with status $status; attempt $((attempt + 1)) of $((restarts + 1)), the next in $delay s"
  sleep "$delay" &
  run=$!
  wait "$run"
  [[ -z $asked ]] || exit 75
done
