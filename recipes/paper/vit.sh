#!/usr/bin/env bash
# Tables 5, 6 and 25 of the paper (arXiv:2312.10440): AutoFormer's space on CIFAR-10, what was found as inherited, fine-tuned and
# trained from new weights, the CKA of the three, and its fine-tuning on other data.
#
#   bash recipes/paper/vit.sh            # a small machine
#   bash recipes/paper/vit.sh --paper    # AutoFormer-T: 500 epochs, and table 6 from ImageNet on five data sets; for several GPUs
#   ECHO=1 bash recipes/paper/vit.sh     # only print what would be run
#   SEEDS=0 METHODS="tanglenas spos+es" bash recipes/paper/vit.sh       # a part of it
#
# Smaller than in the paper: images of 32 pixels in patches of 4, widths 48, 54 and 60 and 4 to 6 layers where there are 192, 216
# and 240 and 12 to 14, hardly any augmentation, STEPS steps; table 6 from CIFAR-10 to Fashion-MNIST instead of from ImageNet.
# Beside what was found: the largest net and, of BASELINES of its parameters, the nets with equal layers and RANDOM_COUNT random ones.
#
# Equal cost, in training steps of the largest net (tangle_hf/search/search_cost.py): each method gets what TangleNAS takes for
# STEPS, 1.533 a step. Single paths that are drawn evenly take 0.670 on average over 400; candidates are 100.
set -euo pipefail
source "$(dirname "$0")/run.sh"

CIFAR10=${CIFAR10:-uoft-cs/cifar10}
FASHION=${FASHION:-zalando-datasets/fashion_mnist}
IMAGENET=${IMAGENET:-ILSVRC/imagenet-1k}               # with --paper
TRANSFERS=${TRANSFERS-cifar10 cifar100 flowers pets cars} # with --paper
SEEDS=${SEEDS:-0 1 2 3}
PORTIONS=${PORTIONS:-0.8}
METHODS=${METHODS:-tanglenas spos+rs spos+es}
BASELINES=${BASELINES:-75%}
RANDOM_COUNT=${RANDOM_COUNT:-4}
RETRAIN_SEEDS=${RETRAIN_SEEDS:-0}
if [[ $paper ]]; then # 500 epochs, of 80 % of the images and of all
    STEPS=${STEPS:-18500} RETRAIN=${RETRAIN:-23000} RETRAIN_RATE=${RETRAIN_RATE:-1e-3} IMAGENET_STEPS=${IMAGENET_STEPS:-475000}
else
    STEPS=${STEPS:-600}
    RETRAIN=${RETRAIN:-$STEPS}    # steps of fine-tuning, and of training from new weights
    RATE=${RATE:-3e-3}            # of the weights
    RETRAIN_RATE=${RETRAIN_RATE:-$RATE}
    ARCH_RATE=${ARCH_RATE:-0.02}  # of the architecture
fi
declare -A share=([tanglenas]=1 [darts]=1 [darts2]=0.418 [gdas]=1.27 [spos+rs]=1.73 [spos+es]=1.73)

search() { # METHOD PORTION SEED FOLDER CONFIG STEPS DATASET
    local options
    method "$1" 5
    if [[ $paper ]]; then # all methods for as many epochs, as AutoFormer; nets of single paths have no stochastic depth
        options=(--config "$recipes/configs/$5.yaml" "${options[@]}" --max_steps "$(times "$6" "$2" 1.25)")
        [[ $1 == tanglenas || $1 == darts* ]] || options+=(--drop_path_rate 0)
    else
        options+=(--image_size 32 --patch_size 4 --hidden_size 48 54 60 --num_hidden_layers 4 5 6 --num_attention_heads 3 4
            --mlp_ratio 3.5 4 --head_dim 16 --crop_min_scale 0.8 --per_device_batch_size 64 --learning_rate "$RATE"
            --eval_batches 5)
    fi
    row "$4" "${launch[@]}" "$recipes/search_vit.py" "${options[@]}" --dataset "$7" --train_portion "$2" \
        --seed "$3"
}

runs=()
for seed in $SEEDS; do
    for portion in $PORTIONS; do
        for name in $METHODS; do
            folder=$OUT/$name-$portion-$seed
            search "$name" "$portion" "$seed" "$folder" cifar_vit "$STEPS" "$CIFAR10"
            runs+=("$name-$portion=$folder")
        done
    done
done
show "$OUT/compare.txt" "$PYTHON" "$recipes/compare.py" --runs "${runs[@]}" --modes inherit finetune retrain --seeds $RETRAIN_SEEDS \
    --baselines largest uniform random --random_count "$RANDOM_COUNT" --rank_batches 0 --max_params "$BASELINES" --max_steps "$RETRAIN" \
    --learning_rate "$RETRAIN_RATE" --finetune_learning_rate 1e-3 ${paper:+--mixed_precision bf16} --output_dir "$OUT/compare"

# Table 6: with --paper a search on ImageNet for each method, then five data sets; else every run from CIFAR-10 to Fashion-MNIST.
for name in $METHODS; do
    if [[ $paper ]]; then
        search "$name" 0.8 0 "$OUT/imagenet-$name" autoformer_tiny_imagenet "$IMAGENET_STEPS" "$IMAGENET"
        for transfer in $TRANSFERS; do
            row "$OUT/imagenet-$name-$transfer" "${launch[@]}" "$recipes/finetune.py" vision --checkpoint "$OUT/imagenet-$name/subnet" \
                --config "$recipes/configs/finetune/transfer_$transfer.yaml"
        done
        continue
    fi
    for run in "${runs[@]}"; do
        if [[ ${run%%=*} == "$name"-* ]]; then
            row "${run#*=}-fashion" "${launch[@]}" "$recipes/finetune.py" vision --checkpoint "${run#*=}/subnet" \
                --dataset "$FASHION" --mode finetune --crop_min_scale 0.8 --max_steps "$RETRAIN" --per_device_batch_size 64
        fi
    done
done
