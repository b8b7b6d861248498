#!/bin/sh
# Over-optimisation from nothing: base models, pairs with wrong labels, reward models, policies. See README.md.
#   sh examples/train/overoptimisation/run.sh target/release/candlescope runs/overoptimisation
# REPLICATES="1 2" SIZES="300" ARMS="single min" in the environment do part of it; what is there already is not done again.
set -eu
program=$(command -v "$1")
out=$2
here=$(dirname "$0")
mkdir -p "$out"

do_once() { # FOLDER METHOD CONFIG OPTION...
    folder=$1 method=$2 config=$3
    shift 3
    if [ ! -d "$folder" ]; then
        "$program" train "$method" -c "$here/$config" --out "$folder.part" --threads 1 --quiet "$@" >/dev/null
        mv "$folder.part" "$folder"
    fi
}

last() { # RUN
    ls -d "$1"/checkpoints/step-* | sort -t- -k2 -n | tail -n 1
}

# 4000 texts of 13 words, and each word as a prompt.
if [ ! -f "$out/prompts.jsonl" ]; then
    awk -v texts="$out/texts.jsonl" -v prompts="$out/prompts.jsonl" 'BEGIN {
        n = split("red ant oak sun blue bee elm sky pink cow fir sea gold dog ivy rain grey emu fern snow black fox moss wind brown goat palm fog white hen reed ice", word, " ")
        state = 20261122
        for (text = 0; text < 4000; text++) {
            line = ""
            for (i = 0; i < 13; i++) {
                state = (16807 * state) % 2147483647
                line = line (i ? " " : "") word[1 + int(state / 2147483647 * n)]
            }
            print "{\"text\": \"" line "\"}" > texts
        }
        for (i = 1; i <= n; i++) print "{\"prompt\": \"" word[i] "\"}" > prompts
    }'
fi
data="data.train=[\"$out/texts.jsonl\"]"
do_once "$out/base-0" lm base.toml --set "$data" --set seed=0
base=$(last "$out/base-0")
for member in 1 2 3 4; do
    do_once "$out/base-$member" lm base.toml --set "$data" --set seed=$member
done
pairs() { # FILE ROWS NOISE SEED
    [ -f "$1" ] || "$program" data sample "$base" "$out/prompts.jsonl" --reward "$here/gold.toml" --rows "$2" --noise "$3" \
        --seed "$4" --max-new 13 --batch 64 --out "$1" --threads 1 --json >"$1.report"
}
pairs "$out/clean.jsonl" 1000 0 99000000

for replicate in ${REPLICATES:-1 2 3 4 5}; do
    for size in ${SIZES:-300 3000}; do
        at="$out/r$replicate-n$size"
        mkdir -p "$at"
        pairs "$at/pairs.jsonl" "$size" 0.25 $((replicate * 1000000 + size * 100))
        models=
        for member in 1 2 3 4; do
            do_once "$at/rm-$member" rm rm.toml --set "model.name=\"$(last "$out/base-$member")\"" \
                --set "data.train=[\"$at/pairs.jsonl\"]" --set "data.eval=[\"$out/clean.jsonl\"]" \
                --set seed=$((replicate * 10 + member)) --set schedule.epochs=$((size == 300 ? 10 : 3))
            models="$models${models:+, }\"$(last "$at/rm-$member")\""
        done
        for arm in ${ARMS:-single mean min uwo kl}; do
            kl='{ kind = "fixed", beta = 0.0 }'
            reward="{ models = [$models], ensemble = \"$arm\" }"
            case $arm in
            uwo) reward="{ models = [$models], ensemble = { uwo = { lambda = 0.5 } } }" ;;
            single | kl) reward="{ models = [\"$(last "$at/rm-1")\"] }" ;;
            esac
            steps=60
            if [ "$arm" = kl ]; then
                steps=120
                kl='{ kind = "adaptive", beta = 0.1, target = 10.0, horizon = 100.0 }'
            fi
            do_once "$at/$arm" ppo ppo.toml --set "model.name=\"$base\"" --set "data.train=[\"$out/prompts.jsonl\"]" \
                --set seed="$replicate" --set "method.ppo.reward=$reward" --set "method.ppo.kl=$kl" \
                --set schedule.steps=$steps
        done
    done
done
# A reward that is no model, held by the adaptive controller.
for seed in ${PLAIN:-11 12 13 14 15}; do
    do_once "$out/plain-$seed" ppo plain.toml --set "model.name=\"$base\"" --set "data.train=[\"$out/prompts.jsonl\"]" \
        --set seed="$seed"
done
