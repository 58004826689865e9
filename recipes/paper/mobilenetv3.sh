#!/usr/bin/env bash
# Table 7 of the paper (arXiv:2312.10440): once-for-all's space of MobileNetV3, TangleNAS beside random search and evolution over
# single paths, and the largest net.
#
#   bash recipes/paper/mobilenetv3.sh            # CIFAR-10, a small machine
#   bash recipes/paper/mobilenetv3.sh --paper    # ImageNet: 500 epochs, for several GPUs
#   ECHO=1 bash recipes/paper/mobilenetv3.sh     # only print what would be run
#   SEEDS=0 METHODS="tanglenas spos+es" bash recipes/paper/mobilenetv3.sh     # a part of it
#
# Smaller than in the paper: CIFAR-10 at 16 pixels instead of ImageNet at 224, a quarter of the channels, STEPS steps. The paper
# tests what is inherited; here it is trained from new weights, too, since after so few steps the inherited scores say little.
#
# Equal cost, in training steps of the largest net (tangle_hf/search/search_cost.py): each method gets what TangleNAS takes for
# STEPS, 1.533 a step. Single paths that are drawn evenly take 0.406 on average over 400; candidates are 100.
set -euo pipefail
source "$(dirname "$0")/run.sh"

CIFAR10=${CIFAR10:-uoft-cs/cifar10}
IMAGENET=${IMAGENET:-ILSVRC/imagenet-1k} # with --paper
SEEDS=${SEEDS:-0 1 2 3}
METHODS=${METHODS:-tanglenas spos+rs spos+es}
RETRAIN_SEEDS=${RETRAIN_SEEDS:-0}
if [[ $paper ]]; then
    STEPS=${STEPS:-294500} RETRAIN=${RETRAIN:-} # 500 epochs; what was found is not trained again
else
    STEPS=${STEPS:-300}
    RETRAIN=${RETRAIN:-$STEPS}    # steps of training from new weights
    RATE=${RATE:-3e-3}            # of the weights
    ARCH_RATE=${ARCH_RATE:-0.03}  # of the architecture
fi
declare -A share=([tanglenas]=1 [darts]=1 [darts2]=0.418 [gdas]=1.63 [spos+rs]=3.22 [spos+es]=3.22)

runs=()
for seed in $SEEDS; do
    for name in $METHODS; do
        method "$name" 5
        if [[ $paper ]]; then
            options=(--config "$recipes/configs/mobilenetv3_imagenet.yaml" "${options[@]}" --dataset "$IMAGENET"
                --max_steps "$STEPS")
        else
            options+=(--space mobilenetv3 --dataset "$CIFAR10" --image_size 16 --crop_min_scale 0.8
                --strides 1 1 1 2 2 1 2 --width_multiplier 0.25
                --kernel_transform --train_portion 0.8 --per_device_batch_size 32 --learning_rate "$RATE"
                --recalibration_batches 20 --eval_batches 5)
        fi
        row "$OUT/$name-$seed" "${launch[@]}" "$recipes/search_cnn.py" "${options[@]}" --seed "$seed"
        runs+=("$name=$OUT/$name-$seed")
    done
done
options=(--modes inherit)
[[ ! $RETRAIN ]] || options+=(retrain --seeds $RETRAIN_SEEDS --max_steps "$RETRAIN" --baselines largest)
options+=(--rank_batches 0)
show "$OUT/compare.txt" "$PYTHON" "$recipes/compare.py" --runs "${runs[@]}" "${options[@]}" --output_dir "$OUT/compare"
