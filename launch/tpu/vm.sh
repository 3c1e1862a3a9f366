#!/usr/bin/env bash
# Trains on every host of a TPU VM slice: TPU_NAME=... TPU_ZONE=... launch/tpu/vm.sh CONFIG [key=value ...]
# The clone and its .venv are expected at TPU_DIR (xlam-jax, below the home folder) on every host; `out` should
# be on storage that all hosts share. Returns when the hosts have started; the run needs no SSH session.
#   launch/tpu/vm.sh --log    follows the logs
#   launch/tpu/vm.sh --stop   lets the run save and end
set -euo pipefail

: "${TPU_NAME:?the name of the TPU VM}" "${TPU_ZONE:?its zone}"
# The hosts' shells expand it.
# shellcheck disable=SC2016
case ${1:-} in
  --log) what='tail -n 100 -F xlam.log' ;;
  --stop) what='kill "$(cat xlam.pid)"' ;;
  *) what="launch/tpu/host.sh --detach$(printf ' %q' "$@")" ;;
esac
exec gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone "$TPU_ZONE" --worker=all --command \
  "cd $(printf %q "${TPU_DIR:-xlam-jax}") && $what"
