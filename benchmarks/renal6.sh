#!/usr/bin/env bash
# Makes weights/renal6.safetensors and the figures on its card from nothing: some five hours of one core with bfloat16.
#
#     benchmarks/renal6.sh DATA OUT
#
# DATA holds what collect.py asks for. Stopped, it goes on with the same command.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2" && cd "$2"

python "$here/collect.py" "$data" others.csv

# What glomeruli, tubules and arteries look like in other collections, on the kidney slide and in drawings, and what they are not
# in colon: from here all go on, so that the folds need not learn it again. None of the patches that judge is among it.
torchrun --nproc-per-node 2 -m omniwsi train others.csv --mpp ptc=0.5 --drawn 0.2 --crop 128 --tile 256 --steps 2500 \
    --held-out 0 --name renal6 --device cpu -o start

taught=(kidney_ki.csv others.csv --init start/weights.safetensors --name renal6 --drawn 0.1 --crop 128 --finish 256 --device cpu)
export OMP_NUM_THREADS=1  # a process a core is quicker than two cores for one
omniwsi train "${taught[@]}" --steps 4400 --held-out 0 -o final &
omniwsi train "${taught[@]}" --steps 1500 --folds 3 -o folds
wait

python "$here/ship.py" final/weights.safetensors folds/evaluation.json
