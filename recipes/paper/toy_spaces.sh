#!/usr/bin/env bash
# Tables 1, 2, 10 and 11 of the paper (arXiv:2312.10440), and what appendices F.5 and F.6 say was found: the toy cell space on
# Fashion-MNIST and conv-macro on CIFAR-10, half or 80 % of the images for the weights.
#
#   bash recipes/paper/toy_spaces.sh            # a small machine
#   bash recipes/paper/toy_spaces.sh --paper    # the paper's nets for 100 epochs, two stages 250
#   ECHO=1 bash recipes/paper/toy_spaces.sh     # only print what would be run
#   SPACES=conv_macro SEEDS="0 1" METHODS="tanglenas spos+es" bash recipes/paper/toy_spaces.sh      # a part of it
#
# What was found is trained from new weights, RETRAIN steps, and tested; the paper looked it up in a benchmark of its own, which
# has the optimum, too. conv_macro has no form with weights of their own (drnas), in which the paper's DrNAS ended at chance.
#
# Smaller than in the paper: toy cells of 16 channels where there are 32, conv-macro on images of 16 pixels, and STEPS steps.
#
# Equal cost, in training steps of the most expensive net (tangle_hf/search/search_cost.py): each method gets what TangleNAS takes
# for STEPS, 1.533 mixtures a step. A mixture takes 1.428 of toy cells, 2.247 without entanglement; of conv-macro 1. A step of
# second order takes 3.667 mixtures, one of GDAS a path and 0.533 mixtures. Single paths that are drawn evenly take 0.670 of toy
# cells, 0.252 of conv-macro, on average over 400; candidates are 200.
set -euo pipefail
source "$(dirname "$0")/run.sh"

CIFAR10=${CIFAR10:-uoft-cs/cifar10}
FASHION=${FASHION:-zalando-datasets/fashion_mnist}
SPACES=${SPACES:-toy_cell conv_macro}
SEEDS=${SEEDS:-0 1 2 3}
PORTIONS=${PORTIONS:-0.5 0.8}
METHODS=${METHODS:-tanglenas drnas darts darts2 gdas spos+rs spos+es}
STEPS=${STEPS:-}              # of TangleNAS; nothing: 400, and 100 epochs of half the images with --paper
RETRAIN=${RETRAIN:-}          # steps of the nets that were found; nothing: STEPS
RETRAIN_SEEDS=${RETRAIN_SEEDS:-0}
RATE=${RATE:-}                # of the weights; nothing: what each space learns at; --paper has its own
ARCH_RATE=${ARCH_RATE:-}      # of the architecture, the same

of_toy_cell() {
    declare -gA share=([tanglenas]=1 [drnas]=0.636 [darts]=1 [darts2]=0.418 [gdas]=1.53 [spos+rs]=2.16 [spos+es]=2.16)
    STEPS=${given:-${paper:+44500}} STEPS=${STEPS:-400} config=toy_cell_fashion_mnist
    RATE=${given_rate:-3e-3} ARCH_RATE=${given_arch_rate:-0.1}
    data=(--dataset "$FASHION")
    small=(--space toy_cell --hidden_size 16 --num_channels 1 --image_size 28 --crop_min_scale 1)
}

of_conv_macro() {
    declare -gA share=([tanglenas]=1 [darts]=1 [darts2]=0.418 [gdas]=1.95 [spos+rs]=4.98 [spos+es]=4.98)
    STEPS=${given:-${paper:+37100}} STEPS=${STEPS:-400} config=conv_macro_cifar10
    RATE=${given_rate:-1e-3} ARCH_RATE=${given_arch_rate:-0.1} # at 3e-3 a mixture stays at chance
    data=(--dataset "$CIFAR10")
    small=(--space conv_macro --image_size 16 --crop_min_scale 0.8)
}

search() { # METHOD PORTION FOLDER SEED
    local options
    method "$1" 10
    options+=("${data[@]}" --train_portion "$2" --seed "$4")
    if [[ ! $paper ]]; then
        options+=("${small[@]}" --per_device_batch_size 32 --learning_rate "$RATE" --recalibration_batches 20 --eval_batches 5)
    elif [[ $1 == spos* ]]; then # epochs of the images that train the weights, two stages 250 of them (table 21)
        options=(--config "$recipes/configs/$config.yaml" "${options[@]}" --max_steps "$(times "$STEPS" "$2" 5)")
    else
        options=(--config "$recipes/configs/$config.yaml" "${options[@]}" --max_steps "$(times "$STEPS" "$2" 2)")
    fi
    row "$3" "${launch[@]}" "$recipes/search_cnn.py" "${options[@]}"
}

# Supernets with and without entanglement have other weights, and a comparison is of one kind.
given=$STEPS given_rate=$RATE given_arch_rate=$ARCH_RATE
for space in $SPACES; do
    "of_$space"
    entangled=() own_weights=()
    for seed in $SEEDS; do
        for portion in $PORTIONS; do
            for name in $METHODS; do
                if [[ $space/$name == conv_macro/drnas ]]; then continue; fi
                folder=$OUT/$space-$name-$portion-$seed
                search "$name" "$portion" "$folder" "$seed"
                if [[ $name == drnas ]]; then
                    own_weights+=("$name-$portion=$folder")
                else
                    entangled+=("$name-$portion=$folder")
                fi
            done
        done
    done
    for kind in entangled own_weights; do
        declare -n runs=$kind
        if [[ ${#runs[@]} -gt 0 ]]; then
            show "$OUT/$space-$kind.txt" "$PYTHON" "$recipes/compare.py" --runs "${runs[@]}" --modes inherit retrain \
                --seeds $RETRAIN_SEEDS --max_steps "${RETRAIN:-$STEPS}" --rank_batches 0 --latency_rounds 0 --keep_models false \
                --output_dir "$OUT/$space-$kind"
        fi
    done
done
if [[ ! ${ECHO-} ]]; then # Genotypes of the toy cells; of conv-macro the table of nets has channels and kernel sizes
    grep -H '"notation"' "$OUT"/*/results.json || true
fi
