#!/usr/bin/env bash
# Makes weights/renal6.safetensors and the figures on its card from the weights that shipped before: 85 minutes of two cores that
# multiply bfloat16.
#
#     benchmarks/renal6.sh DATA OUT
#
# DATA holds what collect.py asks for. Stopped, it goes on with the same command.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2" && cd "$2"

python "$here/collect.py" "$data" others.csv
git -C "$here" show 2cfb160:weights/renal6.safetensors > before.safetensors

export OMP_NUM_THREADS=1  # a process a core is quicker than two cores for one
how=(others.csv --init before.safetensors --name renal6 --drawn 0.1 --crop 128 --finish 256 --device cpu)
omniwsi train kidney_ki.csv "${how[@]}" --steps 4400 --held-out 0 -o final &
omniwsi train kidney_ki_split.csv "${how[@]}" --steps 3500 -o held  # taught alike, judged by what it has not seen
wait

omniwsi evaluate kidney_ki_split.csv --weights held/weights.safetensors --held-out 0.25 --device cpu -o held/judged
python "$here/ship.py" final/weights.safetensors held/judged/evaluation.json
