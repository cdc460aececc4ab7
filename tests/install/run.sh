#!/bin/sh
# Builds the wheel and tries it in fresh environments outside the checkout: a stage for the core and for each extra.
# usage: tests/install/run.sh [PYTHON [STAGE…]]     (minutes; downloads; `make test-install`)
# Stages: core media training docs tpu-check resolve all; default: all of them. uv is that of the PATH, else downloaded.
set -eu
python=$(command -v "${1:-python3}")
[ $# -eq 0 ] || shift
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
cd "$work"
export AVFR_HOME="$work/home" UV_NO_CONFIG=1
uv=$(command -v uv) || { "$python" -m venv tools && tools/bin/python -m pip --quiet install uv && uv=$work/tools/bin/uv; }

expect() { # STATUS TEXT COMMAND…: its exit status, and a part of what it prints
  wanted=$1 text=$2 status=0
  shift 2
  "$@" >log 2>&1 || status=$?
  if [ "$status" != "$wanted" ] || grep -q Traceback log || { [ -n "$text" ] && ! grep -qF -- "$text" log; }; then
    echo "FAILED ($status, not $wanted, or no '$text'): $*" >&2
    tail -20 log >&2
    exit 1
  fi
  echo "ok: $*"
}

environment() { # EXTRAS: a fresh one in env
  rm -rf env
  "$uv" venv --quiet --python "$python" env
  install "$wheel$1"
}

install() { "$uv" pip install --quiet --python env/bin/python "$@"; }

at_most() { env/bin/python -c "import sys; sys.exit(sys.version_info[:2] > (3, $1))"; }

face_backend() { # the line that doctor and every command name; `python -m pip` in it is uv's here
  line=$(env/bin/python -c 'from avfr_jax.packages import FACE_BACKEND; print(FACE_BACKEND)')
  eval "install ${line#pip install}"
}

core() { # networks, motion and losses; what needs more names the line that brings it
  environment ""
  expect 0 "avfr " env/bin/avfr --version
  expect 0 "usage" env/bin/python -m avfr_jax --help
  expect 0 "landmark-warp" env/bin/avfr models
  expect 0 "" env/bin/python -c 'import avfr_jax.training.loop, avfr_jax.families, avfr_jax.ops.tps; avfr_jax.load_model("mesh-fomm")'
  media="pip install 'avfr-jax[media]'"
  expect 1 "$media" env/bin/avfr doctor
  for words in "demo" "reenact --source a.png --driving b.mp4 --output c.mp4" "encode a.mp4 b.avfr" "decode a.avfr b.mp4" \
    "inspect a.mp4"; do
    expect 2 "$media" env/bin/avfr $words
  done
  for program in data.clip_folder data.synthetic_heads experiments.evaluate experiments.rate_distortion experiments.packet_loss \
    experiments.motion_rates experiments.ablation experiments.fit_mesh_motion experiments.fit_spoken_mouth; do
    expect 2 "$media" env/bin/python -m $program --help
  done
  expect 2 "pip install 'avfr-jax[all]'" env/bin/python -m experiments.train --config tiny
}

media() { # all that the main job needs but the face backend, then with it
  environment "[media]"
  line=$(env/bin/python -c 'from avfr_jax.packages import FACE_BACKEND; print(FACE_BACKEND)')
  expect 1 "$line" env/bin/avfr doctor
  expect 2 "$line" env/bin/avfr demo
  expect 2 "pip install 'avfr-jax[all]'" env/bin/python -m experiments.train --config tiny
  if at_most 12; then # mediapipe 0.10.21 ends at Python 3.12
    face_backend
    expect 0 "avfr reenact     works" env/bin/avfr doctor
    expect 0 "contact_sheet" env/bin/avfr demo
  fi
}

training() { # alone it trains on prepared clips; rendering heads needs [media] too
  environment "[training]"
  expect 0 "--data.batch_size" env/bin/python -m experiments.train --config tiny --show
  expect 2 "pip install 'avfr-jax[media]'" env/bin/python -m experiments.train --config tiny
}

docs() {
  environment "[docs]"
  expect 0 "sphinx-build" env/bin/python -m sphinx --version
  expect 0 "" env/bin/python -c 'import furo, myst_parser'
}

tpu_check() { # not installed: half a gigabyte
  environment ""
  expect 0 "libtpu==" "$uv" pip install --dry-run --python env/bin/python "$wheel[tpu-check]"
}

resolve() { # every Python that is supported, whichever is here; wheels of all that is compiled
  wheels=$(printf -- '--only-binary %s ' array-record av grain jaxlib msgpack numba numpy opencv-contrib-python-headless \
    protobuf scikit-image scipy tensorstore)
  for version in 3.11 3.12 3.13; do
    for extra in media training docs all tpu-check; do
      expect 0 "jax==" "$uv" pip compile $wheels --python-version $version --extra $extra "$root/pyproject.toml"
    done
  done
}

all() { # after `pip install` a person can train, prepare data and make tables
  environment "[all]"
  line=$(env/bin/python -c 'from avfr_jax.packages import FACE_BACKEND; print(FACE_BACKEND)')
  expect 2 "$line" env/bin/python -m experiments.train --config tiny --workdir none
  at_most 12 || return 0 # mediapipe 0.10.21 ends at Python 3.12
  face_backend
  small="--synthetic.clips 4 --synthetic.people 4 --synthetic.frames 8 --held_out.share 0.25"
  expect 0 "" env/bin/python -m experiments.train --config tiny --loop.steps 20 $small --workdir run
  expect 0 "tiny" env/bin/avfr inspect run/model
  expect 0 "" env/bin/python -m data.synthetic_heads heads --clips 2 --seconds 0.4
  expect 0 "" env/bin/python -m data.clip_folder heads clips --min-frames 5
  expect 0 "landmark-warp" env/bin/python -m experiments.evaluate clips --models landmark-warp --seconds 0.2
}

"$uv" build --quiet --wheel --out-dir . "$root"
wheel=$(ls "$work"/avfr_jax-*.whl)
for stage in ${*:-core media training docs tpu-check resolve all}; do
  echo "== $stage, $("$python" --version)"
  $(echo "$stage" | tr - _)
done
