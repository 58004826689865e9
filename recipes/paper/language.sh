#!/usr/bin/env bash
# Table 8 of the paper (arXiv:2312.10440): its language space on TinyStories, TangleNAS beside random search and evolution over
# single paths; without a budget, as in the paper, and with one.
#
#   bash recipes/paper/language.sh            # a small machine
#   bash recipes/paper/language.sh --paper    # the paper's sizes, 6,000 steps; for several GPUs
#   ECHO=1 bash recipes/paper/language.sh     # only print what would be run
#   BUDGETS=none SEEDS=0 METHODS="tanglenas spos+es" bash recipes/paper/language.sh     # a part of it
#
# Smaller than in the paper: widths of 48, 72 and 96 where there are 384, 576 and 768, a vocabulary of 2,048 trained on the stories,
# blocks of 128 tokens, STEPS steps. All of TinyStories are 2 million stories, which take long to tokenise: STORIES may be a folder
# with a part of them, in files called train, validation and test. A budget is of the parameters without embeddings. A search with
# one ends with a short training of its finalists, by default; that is left out, for methods of both kinds alike.
#
# Equal cost, in training steps of the largest net (tangle_hf/search/search_cost.py): each method gets what TangleNAS takes for
# STEPS, 1.533 a step. Single paths that are drawn evenly take 0.527 on average over 400; candidates are 100.
set -euo pipefail
source "$(dirname "$0")/run.sh"

STORIES=${STORIES:-roneneldan/TinyStories}
BUDGETS=${BUDGETS:-none 50%}
SEEDS=${SEEDS:-0 1 2 3}
METHODS=${METHODS:-tanglenas spos+rs spos+es}
RETRAIN_SEEDS=${RETRAIN_SEEDS:-0 1}
if [[ $paper ]]; then
    STEPS=${STEPS:-6000}
else
    STEPS=${STEPS:-600}
    RATE=${RATE:-3e-3}            # of the weights
    ARCH_RATE=${ARCH_RATE:-0.02}  # of the architecture
fi
RETRAIN=${RETRAIN:-$STEPS} # steps of training from new weights
declare -A share=([tanglenas]=1 [darts]=1 [darts2]=0.418 [gdas]=1.45 [spos+rs]=2.35 [spos+es]=2.35)

for budget in $BUDGETS; do
    runs=()
    for seed in $SEEDS; do
        for name in $METHODS; do
            method "$name" 5
            if [[ $paper ]]; then
                options=(--config "$recipes/configs/tinystories_small_lm.yaml" "${options[@]}" --max_steps "$STEPS")
            else
                options+=(--n_embd 48 72 96 --n_layer 5 6 7 --n_head 6 8 12 --mlp_ratio 2 3 4 --train_portion 0.5
                    --learning_rate "$RATE")
            fi
            [[ $budget == none ]] || options+=(--max_params_without_embeddings "$budget" --finalists 0)
            row "$OUT/$name-$budget-$seed" "${launch[@]}" "$recipes/search_gpt.py" "${options[@]}" --dataset "$STORIES" \
                --seed "$seed"
            runs+=("$name=$OUT/$name-$budget-$seed")
        done
    done
    options=(--baselines largest)
    [[ $budget == none ]] || options+=(uniform random)
    show "$OUT/compare-$budget.txt" "$PYTHON" "$recipes/compare.py" --runs "${runs[@]}" --modes retrain --seeds $RETRAIN_SEEDS \
        --max_steps "$RETRAIN" "${options[@]}" --rank_batches 0 --cka_batches 0 --generate_tokens 100 \
        --output_dir "$OUT/compare-$budget"
done
