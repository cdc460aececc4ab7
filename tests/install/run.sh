#!/bin/sh
# Builds the wheel and tries it in fresh environments: core alone, then [media], then with a face backend, then [all].
# usage: tests/install/run.sh [PYTHON]     (minutes; downloads; `make test-install`)
set -eu
python=${1:-python3}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export AVFR_HOME="$work/home"

expect() { # STATUS TEXT COMMAND…: its exit status, and a part of what it prints
  wanted=$1 text=$2 status=0
  shift 2
  "$@" >log 2>&1 || status=$?
  if [ "$status" != "$wanted" ] || grep -q Traceback log || ! grep -qF -- "$text" log; then
    echo "FAILED ($status, not $wanted, or no '$text'): $*" >&2
    tail -20 log >&2
    exit 1
  fi
  echo "ok: $*"
}

"$python" -m venv env
pip() { env/bin/python -m pip --quiet --disable-pip-version-check "$@"; }
pip wheel --no-deps --wheel-dir . "$root"
wheel=$(ls "$work"/avfr_jax-*.whl)

pip install "$wheel"
expect 0 "avfr " env/bin/avfr --version
expect 0 "usage" env/bin/python -m avfr_jax --help
expect 0 "landmark-warp" env/bin/avfr models
expect 1 "pip install 'avfr-jax[media]'" env/bin/avfr doctor
for command in "demo" "reenact --source a.png --driving b.mp4 --output c.mp4" "encode a.mp4 b.avfr" "decode a.avfr b.mp4" \
  "inspect a.mp4"; do
  expect 2 "pip install 'avfr-jax[media]'" env/bin/avfr $command
done

pip install "$wheel[media]"
line=$(env/bin/python -c 'from avfr_jax.packages import FACE_BACKEND; print(FACE_BACKEND)')
expect 1 "$line" env/bin/avfr doctor
expect 2 "$line" env/bin/avfr demo
if env/bin/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then # mediapipe 0.10.21 ends at Python 3.12
  eval "env/bin/python -m $line"
  expect 0 "avfr reenact     works" env/bin/avfr doctor
  expect 0 "contact_sheet" env/bin/avfr demo
fi

pip install "$wheel[all]"
expect 0 "--data.batch_size" env/bin/python -m experiments.train --config tiny --show
expect 0 "usage" env/bin/python -m data.clip_folder --help
expect 0 "" env/bin/python -m experiments.train --config tiny --loop.steps 20 --schedule.milestones 10 --workdir run
