#!/usr/bin/env bash
# Makes weights/renal6.safetensors and the figures on its card from elsewhere.safetensors, which has seen nothing of kidney_ki: some
# eight hours of two cores (machine C of benchmarks/README.md).
#
#     benchmarks/renal6.sh DATA OUT
#
# DATA holds what collect.py asks for. Three networks, `split`, `second` and `third`, are each taught without the sources of a third of the patches of
# kidney_ki, and judge those; what ships goes on from `second` by two trainings more, and then learns from every patch by a last one (weights.md says why).
# Stopped, it goes on with the same command.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2" && cd "$2"

python "$here/collect.py" "$data" others.csv

again() { # MANIFEST TIMES: its patches that teach, each as often as TIMES says (awk, of the columns), to be named beside the manifest itself:
    # stains are drawn by the root of their rows, and a few patches drown in another stain's or another collection's hundreds
    head -n 1 "$1"
    awk -F, 'NR > 1 && $8 !~ "^held-out" { for (times = '"$2"'; times > 0; times--) print }' "$1"
}

teach() { # FOLDER INIT SIDE STEPS RATE SEED, and what else omniwsi train is told. SIDE is what its manifests are called by, _second and so on
    omniwsi train "kidney_ki$3.csv" others.csv seen.csv "more$3.csv" "ki_often$3.csv" "ki_outlined$3.csv" again.csv arteries.csv --emphasis vessel=6,distal_tubule=2,ptc=3 \
        --init "$2" -o "$1" --name renal6 --crop 256 --batch-size 16 --drawn 0.1 --device cpu --steps "$4" --learning-rate "$5" --seed "$6" --mpp ptc=0.5 "${@:7}"
}

paint=(--paint-from distal_tubule=0.35 --paint-from proximal_tubule=0.7 --paint-from capsule=0.65 --paint-from tuft=0.65 --paint-from vessel=0.15)

judge() { # SIDE: a network that has not seen its third of the sources, and what it says of them
    teach "$1/1" "$here/elsewhere.safetensors" "_$1" 1300 8e-4 181 --emphasis vessel=6,distal_tubule=2,ptc=2
    teach "$1/2" "$1/1/weights.safetensors" "_$1" 550 8e-4 191
    teach "$1/3" "$1/2/weights.safetensors" "_$1" 1500 8e-4 211 glomeruli_ptc.csv
    teach "$1/4" "$1/3/weights.safetensors" "_$1" 350 5e-4 221 glomeruli_ptc.csv
    python "$here/average.py" "$1/renal6.safetensors" "$1"/{3,4}/weights.safetensors "${paint[@]}"
    omniwsi evaluate "kidney_ki_$1.csv" --weights "$1/renal6.safetensors" --held-out 0.25 --device cpu -o "$1/judged"
}

final() { # what ships, from `second`
    mkdir -p final
    python "$here/average.py" final/start.safetensors second/{3,4}/weights.safetensors
    teach final/5 final/start.safetensors _second 1000 8e-4 311 glomeruli_ptc.csv
    python "$here/average.py" final/5/mean.safetensors final/{start,5/weights}.safetensors
    teach final/6 final/5/mean.safetensors _second 300 6e-4 321 glomeruli_ptc.csv
    python "$here/average.py" final/6/mean.safetensors final/{5/mean,6/weights}.safetensors
    teach final/7 final/6/mean.safetensors "" 1000 8e-4 341 glomeruli_ptc.csv --held-out 0
    python "$here/average.py" final/renal6.safetensors final/{6/mean,7/weights,7/weights}.safetensors "${paint[@]}"
}

for third in "" _split _second _third; do
    again "kidney_ki$third.csv" '$3 == "vessel" ? 12 : $6 == "he" ? 24 : 10' > "ki_often$third.csv"
    again "more$third.csv" '$6 == "ki more" ? 6 : 0' > "ki_outlined$third.csv"
done
{ # colon, where no kidney is, three times, and arteries on trichrome five times
    again others.csv '$6 == "he colon" ? 2 : 0'
    again more.csv '$3 == "vessel" && $6 == "bupt tri more" ? 4 : 0' | tail -n +2
} > again.csv
python "$here/arteries.py" others.csv more.csv seen.csv > arteries.csv
{ # no capillary lies in a glomerulus: of the slide's every third
    head -n 1 others.csv
    cat others.csv seen.csv | awk -F, '$3 == "capsule" && $2 && $4 <= 1 && ($5 !~ /HE2/ || n++ % 3 == 0) { print $1 ",,ptc," $4 "," $5 ",glomerulus," $2 ",train" }'
} > glomeruli_ptc.csv

export OMP_NUM_THREADS=1  # a process a core is quicker than two cores for one
judge third &
third=$!
judge second
wait "$third"
judge split &
split=$!
final
wait "$split"
python "$here/ship.py" final/renal6.safetensors {split,second,third}/judged/evaluation.json
