#!/usr/bin/env bash
# Makes weights/renal6.safetensors and the figures on its card from the weights that shipped first: some ten hours of two cores that
# multiply bfloat16, by what each training took.
#
#     benchmarks/renal6.sh DATA OUT
#
# DATA holds what collect.py asks for. Two lines of training, one for slides and one for patches, two more from their means, and a mean of the first and the last (weights.md
# says why); all of it twice, side by side: `final` learns from every patch, its twin `held` does not see a quarter of the sources and is judged by
# them. Stopped, it goes on with the same command.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2" && cd "$2"

python "$here/collect.py" "$data" others.csv
git -C "$here" show 2cfb160:weights/renal6.safetensors > before.safetensors

teach() { # FOLDER INIT, and what else omniwsi train is told
    omniwsi train "${@:3}" --init "$2" -o "$1" --name renal6 --drawn 0.1 --device cpu
}

average() {
    python "$here/average.py" "$@"
}

all_lines() { # SIDE KIDNEY_KI MORE STEPS [OPTION...]
    local side=$1 ki=$2 more=$3 steps=$4 small=(--crop 128 --finish 256)
    shift 4
    teach "$side/slides" before.safetensors "$ki" others.csv "${small[@]}" --steps "$steps" "$@"
    teach "$side/second" before.safetensors "$ki" others.csv "${small[@]}" --steps 2400 "$@"
    average "$side/start.safetensors" before.safetensors "$side/second/weights.safetensors"
    teach "$side/more" "$side/start.safetensors" "$ki" others.csv "$more" "${small[@]}" --steps 1700 --learning-rate 5e-4 "$@"
    average "$side/patches.safetensors" "$side/start.safetensors" "$side/more/weights.safetensors"
    teach "$side/seen" "$side/patches.safetensors" "$ki" others.csv seen.csv "$more" --crop 256 --batch-size 4 \
        --steps 2300 --learning-rate 4e-4 "$@"
    average "$side/half.safetensors" "$side/slides/weights.safetensors" "$side/seen/weights.safetensors"
    teach "$side/quarter" "$side/patches.safetensors" "$ki" others.csv seen.csv "$more" --crop 256 --batch-size 4 \
        --steps 2400 --learning-rate 4e-4 --seed 1 "$@"
    average "$side/three.safetensors" "$side/half.safetensors" "$side/quarter/weights.safetensors"
    teach "$side/all" "$side/three.safetensors" "$ki" others.csv seen.csv "$more" --crop 256 --batch-size 4 \
        --steps 2050 --learning-rate 3e-4 --seed 3 "$@"
    mean_of_three "$side"
    teach "$side/quick" "$side/mean.safetensors" "$ki" others.csv seen.csv "$more" --crop 256 --batch-size 4 \
        --steps 600 --learning-rate 8e-4 --seed 7 "$@"
    average "$side/halves.safetensors" "$side/mean.safetensors" "$side/quick/weights.safetensors"
    teach "$side/vessels" "$side/halves.safetensors" "$ki" others.csv seen.csv "$more" --crop 256 --batch-size 4 --emphasis vessel=4 \
        --steps 1900 --learning-rate 6e-4 --seed 8 "$@"
    last_mean "$side"
}

mean_of_three() { # SIDE: shares of 5, 1 and 4, each named as often
    local slides=$1/slides/weights.safetensors seen=$1/seen/weights.safetensors all=$1/all/weights.safetensors
    average "$1/mean.safetensors" "$slides" "$slides" "$slides" "$slides" "$slides" "$seen" "$all" "$all" "$all" "$all"
}

last_mean() { # SIDE: shares of 3 and 7
    local slides=$1/slides/weights.safetensors vessels=$1/vessels/weights.safetensors
    average "$1/renal6.safetensors" "$slides" "$slides" "$slides" \
        "$vessels" "$vessels" "$vessels" "$vessels" "$vessels" "$vessels" "$vessels" \
        --paint-from 0.3 --paint-from proximal_tubule=0.4 --paint-from capsule=0.5 --paint-from tuft=0.5 --paint-from ptc=0.5
}

export OMP_NUM_THREADS=1  # a process a core is quicker than two cores for one
all_lines final kidney_ki.csv more.csv 4400 --held-out 0 &
final=$!
all_lines held kidney_ki_split.csv more_split.csv 3500
wait "$final"

omniwsi evaluate kidney_ki_split.csv --weights held/renal6.safetensors --held-out 0.25 --device cpu -o held/judged
python "$here/ship.py" final/renal6.safetensors held/judged/evaluation.json
