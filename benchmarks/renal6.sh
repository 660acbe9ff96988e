#!/usr/bin/env bash
# Makes weights/renal6.safetensors and the figures on its card from the weights that shipped first: eleven hours of two
# cores of machine E (benchmarks/README.md), and a GPU for some minutes, without which it is an hour more.
#
#     benchmarks/renal6.sh DATA OUT
#
# DATA holds what collect.py asks for. Sixteen trainings, one from the other (weights.md says why); all of it twice, side by side: `final` learns from
# every patch, its twin `held` does not see a quarter of the sources and is judged by them. Two networks more, `second` and `third`, taught by four
# trainings each (four hours of a core), judge the patches of the other sources. Stopped, it goes on with the same command.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2" && cd "$2"

python "$here/collect.py" "$data" others.csv
git -C "$here" show 2cfb160:weights/renal6.safetensors > before.safetensors

again() { # MANIFEST TIMES: its patches that teach, each as often as TIMES says (awk, of the columns), to be named beside the manifest itself:
    # stains are drawn by the root of their rows, and a few patches drown in another stain's or another collection's hundreds
    head -n 1 "$1"
    awk -F, 'NR > 1 && $8 !~ "^held-out" { for (times = '"$2"'; times > 0; times--) print }' "$1"
}

teach() { # FOLDER INIT, and what else omniwsi train is told
    omniwsi train --init "$2" -o "$1" --name renal6 --crop 256 --batch-size 4 --drawn 0.1 --device cpu "${@:3}"
}

keep() { # FOLDER STEP: its weights as they are then; they are written every 500 steps
    until [ -f "$1/weights.safetensors" ] && grep -q "^$2," "$1/log.csv"; do sleep 5; done
    [ -f "$1/$2.safetensors" ] || cp "$1/weights.safetensors" "$1/$2.safetensors"
}

line() { # SIDE KIDNEY_KI MORE VESSELS DRAWN OUTLINED [OPTION...]
    local side=$1 ki=$2 more=$3 vessels=$4 drawn=$5 outlined=$6 kept
    shift 6
    teach "$side/first" before.safetensors "$ki" others.csv seen.csv "$more" \
        --steps 5000 --learning-rate 8e-4 --seed 11 --emphasis vessel=3,ptc=0.5 "$@"
    local first=$side/first/weights.safetensors
    python "$here/average.py" "$side/start.safetensors" before.safetensors "$first" "$first" "$first"
    teach "$side/second" "$side/start.safetensors" "$ki" others.csv seen.csv "$more" \
        --steps 950 --learning-rate 5e-4 --seed 12 --emphasis vessel=5 "$@"
    keep "$side/third" 1000 &
    kept=$!
    teach "$side/third" "$side/second/weights.safetensors" "$ki" others.csv seen.csv "$more" "$vessels" \
        --steps 2300 --learning-rate 5e-4 --seed 21 --emphasis vessel=4,ptc=0.5 "$@"
    wait "$kept"
    local third=("$side/third/1000.safetensors" "$side/third/weights.safetensors") fourth=$side/fourth/weights.safetensors
    python "$here/average.py" "$side/third/mean.safetensors" "${third[@]}"
    teach "$side/fourth" "$side/third/mean.safetensors" "$ki" others.csv seen.csv "$more" "$drawn" \
        --steps 1500 --learning-rate 5e-4 --seed 61 --emphasis vessel=4,distal_tubule=2,ptc=0.5 "$@"
    python "$here/average.py" "$side/fourth/mean.safetensors" "${third[@]}" "$fourth" "$fourth"
    teach "$side/fifth" "$side/fourth/mean.safetensors" "$ki" others.csv seen.csv "$more" "$drawn" "$outlined" \
        --steps 900 --batch-size 16 --learning-rate 8e-4 --drawn 0 --device auto --seed 72 --emphasis vessel=6,distal_tubule=2,ptc=0.5 "$@"
    teach "$side/sixth" "$side/fifth/weights.safetensors" "$ki" others.csv seen.csv "$more" "$drawn" "$outlined" \
        --steps 400 --batch-size 16 --learning-rate 5e-4 --seed 81 --emphasis vessel=6,distal_tubule=2 "$@"
    teach "$side/seventh" "$side/sixth/weights.safetensors" "$ki" others.csv seen.csv "$more" "$drawn" "$outlined" again.csv \
        --steps 500 --batch-size 16 --learning-rate 7e-4 --seed 91 --emphasis vessel=6,distal_tubule=2,ptc=2 "$@"
    teach "$side/eighth" "$side/seventh/weights.safetensors" "$ki" others.csv seen.csv "$more" "$drawn" "$outlined" again.csv \
        --steps 300 --batch-size 16 --learning-rate 5e-4 --seed 92 --emphasis vessel=6,distal_tubule=2 "$@"
    python "$here/average.py" "$side/eighth/mean.safetensors" "$side"/{sixth,seventh,eighth}/weights.safetensors
    local all=("$ki" others.csv seen.csv "$more" "${ki/kidney_ki/ki_often}" "${ki/kidney_ki/ki_outlined}" again.csv arteries.csv --batch-size 16 --mpp ptc=0.5)
    teach "$side/ninth" "$side/eighth/mean.safetensors" "${all[@]}" \
        --steps 400 --learning-rate 7e-4 --seed 94 --emphasis vessel=6,distal_tubule=2,ptc=2 "$@"
    teach "$side/tenth" "$side/ninth/weights.safetensors" "${all[@]}" \
        --steps 800 --learning-rate 8e-4 --seed 101 --emphasis vessel=6,distal_tubule=2,ptc=2 "$@"
    teach "$side/eleventh" "$side/tenth/weights.safetensors" "${all[@]}" \
        --steps 400 --learning-rate 6e-4 --seed 111 --emphasis vessel=6,distal_tubule=2,ptc=3 "$@"
    python "$here/average.py" "$side/eleventh/mean.safetensors" "$side"/{tenth,eleventh}/weights.safetensors --paint-from distal_tubule=0.4 \
        --paint-from proximal_tubule=0.6 --paint-from capsule=0.65 --paint-from tuft=0.55 --paint-from vessel=0.2 --paint-from ptc=0.8
    teach "$side/twelfth" "$side/eleventh/mean.safetensors" "${all[@]}" \
        --steps 600 --learning-rate 8e-4 --seed 131 --emphasis vessel=6,distal_tubule=2,ptc=2 "$@"
    teach "$side/thirteenth" "$side/twelfth/weights.safetensors" "${all[@]}" \
        --steps 400 --learning-rate 6e-4 --seed 141 --emphasis vessel=6,distal_tubule=2,ptc=3 "$@"
    python "$here/average.py" "$side/thirteenth/mean.safetensors" "$side"/eleventh/mean.safetensors "$side"/{twelfth,thirteenth}/weights.safetensors --paint-from distal_tubule=0.45 \
        --paint-from proximal_tubule=0.6 --paint-from capsule=0.65 --paint-from vessel=0.3 --paint-from ptc=0.75
    teach "$side/fourteenth" "$side/thirteenth/mean.safetensors" "${all[@]}" \
        --steps 400 --learning-rate 6e-4 --seed 161 --emphasis vessel=6,distal_tubule=2,ptc=3 "$@"
    teach "$side/fifteenth" "$side/fourteenth/weights.safetensors" "${all[@]}" \
        --steps 400 --learning-rate 6e-4 --seed 171 --emphasis vessel=6,distal_tubule=2,ptc=3 "$@"
    python "$here/average.py" "$side/fifteenth/mean.safetensors" "$side"/thirteenth/mean.safetensors "$side"/{fourteenth,fifteenth}/weights.safetensors \
        --paint-from proximal_tubule=0.65 --paint-from capsule=0.6 --paint-from vessel=0.2 --paint-from ptc=0.75
    teach "$side/sixteenth" "$side/fifteenth/mean.safetensors" "${all[@]}" glomeruli_ptc.csv \
        --steps 1000 --learning-rate 8e-4 --seed 301 --emphasis vessel=6,distal_tubule=2,ptc=3 "$@"
    python "$here/average.py" "$side/renal6.safetensors" "$side"/{fifteenth/mean,sixteenth/weights}.safetensors \
        --paint-from proximal_tubule=0.65 --paint-from capsule=0.55 --paint-from tuft=0.55 --paint-from vessel=0.35 --paint-from ptc=0.65
}

beside() { # WAY: a network that has not seen its third of the sources, from one that has seen none of kidney_ki
    local all=(kidney_ki_$1.csv others.csv seen.csv more_$1.csv ki_often_$1.csv ki_outlined_$1.csv again.csv arteries.csv --batch-size 16 --mpp ptc=0.5)
    teach "$1/first" "$here/elsewhere.safetensors" "${all[@]}" \
        --steps 1300 --learning-rate 8e-4 --seed 181 --emphasis vessel=6,distal_tubule=2,ptc=2
    teach "$1/second" "$1/first/weights.safetensors" "${all[@]}" \
        --steps 550 --learning-rate 8e-4 --seed 191 --emphasis vessel=6,distal_tubule=2,ptc=3
    teach "$1/third" "$1/second/weights.safetensors" "${all[@]}" glomeruli_ptc.csv \
        --steps 1500 --learning-rate 8e-4 --seed 211 --emphasis vessel=6,distal_tubule=2,ptc=3
    teach "$1/fourth" "$1/third/weights.safetensors" "${all[@]}" glomeruli_ptc.csv \
        --steps 350 --learning-rate 5e-4 --seed 221 --emphasis vessel=6,distal_tubule=2,ptc=3
    python "$here/average.py" "$1/renal6.safetensors" "$1"/{third,fourth}/weights.safetensors \
        --paint-from proximal_tubule=0.65 --paint-from capsule=0.6 --paint-from vessel=0.2 --paint-from ptc=0.75
}

for ki in kidney_ki kidney_ki_split kidney_ki_second kidney_ki_third; do
    again $ki.csv '$3 == "vessel" ? 3 : 0' > "${ki/kidney_ki/ki_vessels}.csv"
    again $ki.csv '$3 == "vessel" ? 8 : $6 == "he" ? 24 : 3' > "${ki/kidney_ki/ki_drawn}.csv"
    again $ki.csv '$3 == "vessel" ? 12 : $6 == "he" ? 24 : 10' > "${ki/kidney_ki/ki_often}.csv"
    again "${ki/kidney_ki/more}.csv" '$6 == "ki more" ? 3 : 0' > "${ki/kidney_ki/ki_more}.csv"
    again "${ki/kidney_ki/more}.csv" '$6 == "ki more" ? 6 : 0' > "${ki/kidney_ki/ki_outlined}.csv"
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
line final kidney_ki.csv more.csv ki_vessels.csv ki_drawn.csv ki_more.csv --held-out 0 &
final=$!
line held kidney_ki_split.csv more_split.csv ki_vessels_split.csv ki_drawn_split.csv ki_more_split.csv
wait "$final"
beside second &
second=$!
beside third
wait "$second"

for judge in split:held second:second third:third; do
    side=${judge#*:}
    omniwsi evaluate "kidney_ki_${judge%:*}.csv" --weights "$side/renal6.safetensors" --held-out 0.25 --device cpu -o "$side/judged"
done
python "$here/ship.py" final/renal6.safetensors {held,second,third}/judged/evaluation.json
