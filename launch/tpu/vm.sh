#!/usr/bin/env bash
# Trains on every host of a TPU VM slice: TPU_NAME=... TPU_ZONE=... launch/tpu/vm.sh CONFIG [key=value ...]
# The clone and its .venv are expected at TPU_DIR (xlam-jax, below the home folder) on every host; `out` should
# be on storage that all hosts share.
set -euo pipefail

: "${TPU_NAME:?the name of the TPU VM}" "${TPU_ZONE:?its zone}"
exec gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone "$TPU_ZONE" --worker=all --command \
  "cd $(printf %q "${TPU_DIR:-xlam-jax}") && XLAM_DISTRIBUTED=tpu exec .venv/bin/xlam train$(printf ' %q' "$@")"
