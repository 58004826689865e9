"""What is particular to convolutional nets: literal sums, batch norm, kernels, the paper's spaces and optima, export."""

import json
import random
import subprocess
import sys

import pytest
import torch
from families import conv_macro, images, mobilenetv3
from torch.nn import functional as F
from transformers import AutoModelForImageClassification, Trainer, TrainingArguments
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tangle_hf import (
    ArchParameters,
    ElasticConvMacroConfig,
    ElasticMobileNetV3Config,
    ElasticMobileNetV3ForImageClassification,
    PerLayer,
    SearchSpace,
    TangleConvMacroConfig,
    TangleMobileNetV3Config,
    TangleMobileNetV3ForImageClassification,
    extract,
    flops,
    num_params,
    one_hot,
    sampler,
)
from tangle_hf.axes import Axis, ParameterAxes, exists, slice_parameters, whole
from tangle_hf.budgets.discretisation import discretise
from tangle_hf.models.conv_spaces import CONV_MACRO, OFA_MOBILENETV3
from tangle_hf.models.loading import load_supernet
from tangle_hf.models.mobilenetv3.configuration_tangle_mobilenetv3 import make_divisible
from tangle_hf.subnets.exports import export


FAMILIES = {"conv_macro": (conv_macro, 12), "mobilenetv3": (mobilenetv3, 8)}
EVERY = pytest.mark.parametrize("name", FAMILIES)


def net(name, **options):
    """A supernet, and images of its size."""
    build, size = FAMILIES[name]
    return build(**options), images(size=size)


def soft(space, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shares = ArchParameters(space).double().sample(sampler("drnas"), 0.0, generator)
    return {name: rows.detach() for name, rows in shares.items()}


def padded_kernels(weight, shares, sizes):
    """The share-weighted sum of zero-padded centre crops."""
    total, full = torch.zeros_like(weight), weight.shape[-1]
    for share, size in zip(shares, sizes, strict=True):
        margin = (full - size) // 2
        crop = weight[..., margin : full - margin, margin : full - margin]
        total = total + share * F.pad(crop, [margin] * 4)
    return total


def prefixes(x, shares, sizes):
    """The share-weighted sum of zero-padded prefixes of the channels."""
    total = 0
    for share, size in zip(shares, sizes, strict=True):
        total = total + share * torch.cat([x[:, :size], torch.zeros_like(x[:, size:])], 1)
    return total


def literal_conv_macro(supernet, x, mixture):
    choices, kernels = supernet.space.choices, mixture["kernel_size"]
    for number, conv in enumerate(supernet.convs):
        if number:
            x = prefixes(x, mixture[f"channels_{number}"][0], choices[f"channels_{number}"])
        weight = conv.weight if number == 4 else padded_kernels(conv.weight, kernels[number], choices["kernel_size"])
        x = F.conv2d(x, weight, conv.bias, padding=conv.padding)
        x = x if number == 4 else F.relu(x)
        x = F.max_pool2d(x, 2) if number in (1, 2) else x
    x = x.flatten(1)
    for layer in supernet.hidden:
        x = F.relu(layer(x))
    return supernet.classifier(x)


def literal_mobilenetv3(supernet, x, mixture):
    config, space = supernet.config, supernet.space
    ratios, sizes = (space.choices[name] for name in ("expand_ratio", "kernel_size"))
    x, layer = supernet.first(supernet.stem(x)), 0
    for number, stage in enumerate(supernet.stages):
        total = 0
        for depth, block in enumerate(stage, 1):
            inputs = x.shape[1]
            rows = mixture["expand_ratio"].expand(space.stages * space.max_depth, -1)[layer]
            inner = [config.inner_channels(inputs, ratio) for ratio in ratios]
            conv = block.depthwise.conv
            kernel = padded_kernels(conv.weight, mixture["kernel_size"][layer], sizes)
            out = F.conv2d(block.expand(x), kernel, None, conv.stride, conv.padding, groups=conv.groups)
            out = block.depthwise.act(block.depthwise.norm(out))
            if config.squeeze_excite[number + 2]:
                gates, means = block.squeeze_excite, prefixes(out.mean((2, 3)), rows, inner)
                squeezed = prefixes(F.relu(gates.reduce(means)), rows, [config.squeezed_channels(i) for i in inner])
                out = out * F.hardsigmoid(gates.expand(squeezed))[:, :, None, None]
            out = block.project(prefixes(out, rows, inner))
            x = x + out if block.residual else out
            if depth in space.depths:
                total = total + mixture["depths"][number, space.depths.index(depth)] * x
            layer += 1
        x = total
    return supernet.classify(x)


LITERAL = {"conv_macro": literal_conv_macro, "mobilenetv3": literal_mobilenetv3}
PER_LAYER = SearchSpace(
    depths=PerLayer([1, 2], rows=2), kernel_size=PerLayer([3, 5, 7]), expand_ratio=PerLayer([2, 3, 4])
)


@EVERY
@pytest.mark.parametrize("training", [False, True])
def test_law_2_a_whole_net_is_the_literal_sum_over_slices(name, training):
    supernet, pixels = net(name, **({"space": PER_LAYER} if name == "mobilenetv3" else {}))
    supernet.double().train(training)
    for seed in range(2):
        mixture = soft(supernet.space, seed)
        with torch.no_grad():
            expected = LITERAL[name](supernet, pixels.double(), mixture)
            torch.testing.assert_close(supernet(pixels, mixture=mixture).logits, expected, rtol=1e-10, atol=1e-10)


@EVERY
@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_the_logits_reach_every_share(name, training):
    supernet, pixels = net(name)
    supernet.double().train(training).requires_grad_(False)
    mixture = soft(supernet.space)
    rows = [mixture[dimension].requires_grad_() for dimension in mixture]

    def value(*shares):
        return supernet(pixels, mixture=dict(zip(mixture, shares, strict=True))).logits.square().mean()

    gradients = torch.autograd.grad(value(*rows), rows)
    for share, gradient in zip(rows, gradients, strict=True):
        assert share.shape[1] == 1 or gradient.abs().min() > 0
        direction, step = torch.randn_like(share), 1e-6
        with torch.no_grad():
            up, down = (
                value(*(other + sign * step * direction if other is share else other for other in rows))
                for sign in (1, -1)
            )
        assert (gradient * direction).sum().item() == pytest.approx((up - down).item() / (2 * step), rel=1e-4)


@EVERY
def test_law_1_in_training_with_the_statistics_of_the_batch(name):
    """One-hot mixtures normalise as their subnets do, and leave them the same running statistics."""
    supernet, pixels = net(name)
    supernet.double()
    state = {key: value.clone() for key, value in supernet.state_dict().items()}
    architectures = list(supernet.space)
    random.Random(1).shuffle(architectures)
    for arch in architectures[:8]:
        subnet = extract(supernet, arch).train()
        with torch.no_grad():
            expected = subnet(pixels).logits
        for how in ({"mixture": one_hot(supernet.space, arch)}, {"arch": arch}):
            supernet.train().load_state_dict(state)
            with torch.no_grad():
                found = supernet(pixels, **how).logits
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
            tracked = dict(subnet.named_buffers())
            cut = {key: value for key, value in supernet.slices(arch).items() if key in tracked}
            assert cut.keys() == {key for key in tracked if "num_batches" not in key}
            for key, value in cut.items():
                torch.testing.assert_close(value, tracked[key], rtol=1e-10, atol=1e-10)
        supernet.load_state_dict(state)
    if name == "mobilenetv3":
        assert any(key.endswith("running_var") for key in tracked)


def test_law_5_slices_by_hand():
    """Extracted weights against index lists written out here, without the axis table."""
    supernet, _ = net("mobilenetv3", space=PER_LAYER)
    full, rng = supernet.state_dict(), random.Random(0)
    for arch in [supernet.space.sample(rng) for _ in range(6)]:
        subnet = extract(supernet, arch).state_dict()
        for name, tensor in subnet.items():
            part = name.split(".")
            if part[0] != "stages" or "num_batches" in name:
                assert torch.equal(tensor, full[name]), name
                continue
            stage, block = int(part[1]), int(part[2])
            assert block < arch.depths[stage]
            layer, inputs = 2 * stage + block, 8 if stage == block == 1 else 4
            inner = inputs * arch.expand_ratio[layer]
            squeezed, k = max(2, inner // 2 // 2 * 2), arch.kernel_size[layer]
            taps, inner = slice((7 - k) // 2, (7 + k) // 2), slice(inner)
            cut = full[name]
            if part[3] == "depthwise" and part[4] == "conv":
                cut = cut[inner, :, taps, taps]
            elif part[3] == "squeeze_excite":
                rows, columns = (slice(squeezed), inner) if part[4] == "reduce" else (inner, slice(squeezed))
                cut = cut[rows] if cut.ndim == 1 else cut[rows, columns]
            elif part[3] == "project":
                cut = cut[:, inner] if part[4] == "conv" else cut
            else:
                cut = cut[inner]
            assert torch.equal(tensor, cut), name


def test_kernels_by_matrices_of_once_for_all():
    """Smaller kernels are matrices times centres; a subnet has the products, and neither matrices nor more parameters."""
    space = SearchSpace(depths=PerLayer([1, 2], rows=2), kernel_size=PerLayer([3, 5, 7]), expand_ratio=[2, 3])
    supernet, pixels = net("mobilenetv3", space=space, kernel_transform=True)
    supernet.double()
    first = supernet.stages[0][0].depthwise
    assert first.transform_5.shape == (25, 25) and first.transform_3.shape == (9, 9)
    kernel = first.conv.weight[:, :, 1:6, 1:6].flatten(1) @ first.transform_5.T
    kernel = kernel.view(-1, 1, 5, 5)[:, :, 1:4, 1:4].flatten(1) @ first.transform_3.T
    rng = random.Random(0)
    for arch in [space.smallest, space.largest, *(space.sample(rng) for _ in range(6))]:
        subnet = extract(supernet, arch)
        if arch.kernel_size[0] == 3:
            found = subnet.stages[0][0].depthwise.conv.weight
            torch.testing.assert_close(found, kernel.view(-1, 1, 3, 3)[: len(found)])
        assert num_params(space, arch, supernet.config) == sum(p.numel() for p in subnet.parameters())
        with torch.no_grad():
            expected = subnet(pixels).logits
            for how in ({"mixture": one_hot(space, arch)}, {"arch": arch}):
                torch.testing.assert_close(supernet(pixels, **how).logits, expected, rtol=1e-10, atol=1e-10)
    for how in ({"mixture": soft(space)}, {"arch": space.smallest}):
        supernet.zero_grad()
        supernet(pixels, labels=torch.tensor([1, 2]), **how).loss.backward()
        trained = (first.transform_3, first.transform_5, first.conv.weight)
        assert all(parameter.grad.abs().sum() > 0 for parameter in trained)
    fresh = ElasticMobileNetV3ForImageClassification(supernet.config).stages[0][0].depthwise
    assert torch.equal(fresh.transform_5, torch.eye(25))


def test_the_papers_mobilenetv3_has_the_papers_size():
    """Appendix F.4 of arXiv:2312.10440: 7.58 M parameters and 528.80 M FLOPs, which are multiply-adds."""
    space = OFA_MOBILENETV3
    config = ElasticMobileNetV3Config(space=space, num_labels=1000)
    kernels = [7, 5, 5, 7, 5, 5, 7, 7, 5, 7, 7, 7, 5, 7, 7, 5, 5, 7, 7, 5]
    arch = space.architecture(depths=4, kernel_size=kernels, expand_ratio=6)
    assert num_params(space, arch, config) == 7_576_056
    assert flops(space, arch, config) == 2 * 528_802_080
    assert space.size == (9**2 + 9**3 + 9**4) ** 5


def test_the_papers_conv_macro():
    """Appendix C of arXiv:2312.10440; the size of the optimum that F.6 gives, by hand."""
    assert CONV_MACRO.size == 3**8
    config = ElasticConvMacroConfig(space=CONV_MACRO, num_labels=10)
    sizes = dict(zip(("channels_1", "channels_2", "channels_3", "channels_4"), (32, 64, 128, 64), strict=True))
    arch = CONV_MACRO.architecture(**sizes, kernel_size=[5, 5, 7, 7])
    convs = [(3, 32, 5), (32, 64, 5), (64, 128, 7), (128, 64, 7), (64, 256, 7)]
    linears = [(6 * 6 * 256, 256), (256, 128), (128, 64), (64, 10)]
    weights = [i * o * k * k for i, o, k in convs]
    biases = sum(o for _, o, _ in convs) + sum(o for _, o in linears)
    assert num_params(CONV_MACRO, arch, config) == sum(weights) + sum(i * o for i, o in linears) + biases
    positions = (32 * 32, 32 * 32, 16 * 16, 8 * 8, 6 * 6)
    work = sum(w * p for w, p in zip(weights, positions, strict=True)) + sum(i * o for i, o in linears)
    assert flops(CONV_MACRO, arch, config) == 2 * work


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (TangleConvMacroConfig, {"channels": [8, 8]}, "channels=.*four"),
        (TangleConvMacroConfig, {"kernel_size": [3, 4, 3, 3]}, r"kernel_size=\[4\] must be odd"),
        (TangleConvMacroConfig, {"image_size": 8}, "image_size=8 is too small"),
        (ElasticConvMacroConfig, {"space": SearchSpace(width=[1])}, "width.*conv-macro"),
        (ElasticConvMacroConfig, {"channels": [1, 2, 3]}, "must be four numbers"),
        (TangleMobileNetV3Config, {"strides": [0, 1, 1, 2, 2, 1, 2]}, "strides=.* at least 1"),
        (ElasticConvMacroConfig, {"space": SearchSpace(kernel_size=PerLayer([3], rows=5))}, "rows=4"),
        (ElasticConvMacroConfig, {"space": SearchSpace(kernel_size=[3, 4])}, "must be odd"),
        (TangleMobileNetV3Config, {"depths": [4] * 4}, "hidden_sizes"),
        (TangleMobileNetV3Config, {"kernel_size": [3] * 19}, "19 values for 20 blocks"),
        (TangleMobileNetV3Config, {"image_size": 16}, "smaller than the network's stride, 32"),
        (ElasticMobileNetV3Config, {"space": SearchSpace(depths=[2, 4])}, "chosen per stage"),
        (
            ElasticMobileNetV3Config,
            {"space": SearchSpace(depths=PerLayer([2], rows=5), kernel_size=PerLayer([4, 5]))},
            "must be odd",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_numbers_of_channels_are_rounded_as_in_mobilenet():
    """Multiples of the divisor, the nearest one unless that takes away more than 10 %."""
    given = {72: 72, 67: 64, 68: 72, 18: 24, 9: 16, 3: 8}  # 16 would be 11 % below 18, 8 that much below 9
    assert {channels: make_divisible(channels, 8) for channels in given} == given


def test_a_choice_that_owns_nothing_of_a_parameter_does_without_it():
    """As the operations of a cell do; a plain net has no such parameter, an empty one would be another thing."""
    space = SearchSpace(operation=PerLayer(["skip", "conv"], rows=2))
    of_conv = Axis(("operation",), lambda operation: ((4, slice(4 if operation == "conv" else 0)),))
    table = {f"{layer}.weight": ParameterAxes((of_conv, whole(3)), layer) for layer in range(2)}
    arch = space.architecture(operation=["skip", "conv"])
    assert [exists(entry, arch) for entry in table.values()] == [False, True]
    cut = slice_parameters({name: torch.ones(4, 3) for name in table}, table, arch)
    assert cut.keys() == {"1.weight"} and cut["1.weight"].shape == (4, 3)


@EVERY
def test_no_stock_form(name):
    supernet, _ = net(name)
    with pytest.raises(ValueError, match="transformers has no such class"):
        extract(supernet, supernet.space.largest, "stock")
    with pytest.raises(ValueError, match="leave standard_only out"):
        discretise(supernet, soft(supernet.space), standard_only=True)


@EVERY
def test_a_plain_net_becomes_a_supernet(name, tmp_path):
    supernet, pixels = net(name)
    plain = extract(supernet, supernet.space.largest)
    plain.save_pretrained(tmp_path / "plain")
    again, loading = type(supernet).from_pretrained(tmp_path / "plain", space=supernet.space, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and again.space == supernet.space
    with torch.no_grad():
        assert torch.equal(again.eval()(pixels).logits, plain(pixels).logits)
    assert type(supernet).from_pretrained(tmp_path / "plain").space.size == 1
    again.save_pretrained(tmp_path / "supernet")
    assert not list((tmp_path / "supernet").glob("*.py")) and "auto_map" not in again.config.to_dict()
    assert type(load_supernet(tmp_path / "supernet")) is type(supernet)
    larger = {**supernet.space.to_dict(), "kernel_size": {**supernet.space.to_dict()["kernel_size"], "per_layer": [7]}}
    with pytest.raises(ValueError, match="kernel_size.*checkpoint"):
        type(supernet).from_pretrained(tmp_path / "plain", space=SearchSpace.from_dict(larger))


LOADER = """
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tangle_hf":
            raise ImportError("tangle_hf is not installed here")
sys.meta_path.insert(0, Refuse())
import torch
from PIL import Image
from transformers import AutoModelForImageClassification, pipeline
found = {}
for folder in sys.argv[1:]:
    model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True).eval()
    size = model.config.image_size
    with torch.no_grad():
        logits = model(torch.arange(3.0 * size * size).view(1, 3, size, size) / 100).logits.tolist()
    image = Image.fromarray(torch.arange(300).view(10, 10, 3).byte().numpy())
    scores = pipeline("image-classification", model=folder, top_k=10, trust_remote_code=True)(image)
    found[folder] = [type(model).__name__, logits, len(scores)]
print("FOUND" + json.dumps(found))
"""


def test_files_classify_where_the_library_cannot_be_imported(tmp_path):
    expected = {}
    for name in FAMILIES:
        supernet, pixels = net(name)
        size = supernet.config.image_size
        processor = ViTImageProcessorPil(size={"height": size, "width": size})
        written = export(
            supernet, supernet.space.smallest, tmp_path / name, {"pixel_values": pixels}, processor=processor
        )
        assert written.form == "compact" and written.difference < 1e-5 * written.scale
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert "space" not in config and "kernel_transform" not in config and config["kernel_size"]
        model = AutoModelForImageClassification.from_pretrained(
            tmp_path / name
        )  # no remote code: the import registers
        with torch.no_grad():
            logits = model(torch.arange(3.0 * size * size).view(1, 3, size, size) / 100).logits
        expected[str(tmp_path / name)] = (type(model).__name__, logits)
    done = subprocess.run([sys.executable, "-c", LOADER, *expected], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.split("FOUND")[1])
    for folder, (name, logits) in expected.items():
        assert found[folder][0] == name and found[folder][2] == 10
        torch.testing.assert_close(torch.tensor(found[folder][1]), logits, rtol=1e-4, atol=1e-4)


def test_a_found_net_trains_with_trainer(tmp_path):
    supernet, _ = net("mobilenetv3")
    subnet = extract(supernet, supernet.space.smallest)
    before = {name: tensor.clone() for name, tensor in subnet.state_dict().items()}
    rows = [{"pixel_values": pixels, "labels": number} for number, pixels in enumerate(images(8))]
    arguments = TrainingArguments(
        tmp_path, max_steps=2, per_device_train_batch_size=4, report_to="none", disable_tqdm=True, use_cpu=True
    )
    Trainer(subnet, arguments, train_dataset=rows).train()
    changed = {name for name, tensor in subnet.state_dict().items() if not torch.equal(tensor, before[name])}
    assert "classifier.weight" in changed and "head.norm.running_mean" in changed


def test_new_weights_are_those_of_torchvision():
    """He's normal distribution, fan out, for convolutions; the standard deviation counts all groups of a depthwise one."""
    torch.manual_seed(0)
    model = TangleMobileNetV3ForImageClassification(TangleMobileNetV3Config(num_labels=1000))
    assert model.head.conv.weight.std().item() == pytest.approx((2 / 960) ** 0.5, rel=0.03)
    depthwise = model.stages[4][3].depthwise.conv.weight
    assert depthwise.std().item() == pytest.approx((2 / (49 * 960)) ** 0.5, rel=0.03)
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert model.stages[2][1].depthwise.norm.weight.eq(1).all()


def test_conv_macro_refuses_images_of_another_size():
    supernet, pixels = net("conv_macro")
    for how in ({}, {"arch": supernet.space.smallest}, {"mixture": one_hot(supernet.space, supernet.space.largest)}):
        with pytest.raises(ValueError, match=r"images are \(8, 8\), this model takes \(12, 12\)"):
            supernet(pixels[:, :, :8, :8], **how)
