"""Networks of cells as plain image classifiers: one operation per edge.

Travels with checkpoints as remote code, so it imports nothing but torch, transformers and the files beside it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention
from transformers.utils import can_return_tuple

from .configuration_tangle_cells import STEM_MULTIPLIER, Layer, TangleCellsConfig
from .genotypes import Cell as Wiring
from .operations import ConvNorm, FactorizedReduce, make_operation, modules_of


class Edge(nn.ModuleDict):
    """An edge of a cell: the modules of its operations by name, one in a plain net.

    Args:
        operations: What the edge can be.
        layer: The cell's sizes.
        stride: Stride of the edge.
        config: Config of the network.
    """

    def __init__(self, operations: tuple[str, ...], layer: Layer, stride: int, config: TangleCellsConfig):
        super().__init__()
        self.operations, self.stride, self.partial_channels = operations, stride, config.partial_channels
        width = layer.channels // config.partial_channels
        for name, operation in modules_of(operations, not config.named_by_kernel).items():
            self[name] = make_operation(operation, width, stride, config.norm_affine, config.pool_norm)

    def forward(self, x: Tensor, drop_path: float = 0.0) -> Tensor:
        if len(self) != 1:
            raise ValueError(
                f"an edge can be {self.operations}: a supernet of cells needs a mixture or an arch to run"
            )
        (module,) = self.values()
        out = partial_channels(x, self.partial_channels, self.stride, module)
        if self.training and drop_path and not isinstance(module, nn.Identity):
            keep = torch.empty(len(out), 1, 1, 1, dtype=out.dtype, device=out.device).bernoulli_(1 - drop_path)
            out = out * (keep / (1 - drop_path))
        return out


def partial_channels(x: Tensor, parts: int, stride: int, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Runs the first 1 / parts of the channels, lets the others pass, and shuffles (PC-DARTS, arXiv:1907.05737, 3.1)."""
    if parts == 1:
        return run(x)
    width = x.shape[1] // parts
    rest = x[:, width:] if stride == 1 else F.max_pool2d(x[:, width:], 2)
    out = torch.cat([run(x[:, :width]), rest], dim=1)
    return out.unflatten(1, (parts, width)).transpose(1, 2).flatten(1, 2)


class Cell(nn.Module):
    """Nodes that sum up edges: a node's value is the sum over all nodes before it of the edge between them.

    Args:
        layer: Its sizes.
        operations: What each edge can be.
        config: Config of the network.
    """

    def __init__(self, layer: Layer, operations: tuple[tuple[str, ...], ...], config: TangleCellsConfig):
        super().__init__()
        self.kind, self.wiring = layer.kind, config.wiring
        self.preprocess = nn.ModuleList()
        if self.wiring.concat:  # the cells of NAS-Bench-201 read their input as it is
            for number, channels in enumerate(layer.inputs):
                if layer.shrink and number == 0:
                    self.preprocess.append(FactorizedReduce(channels, layer.channels, config.norm_affine))
                else:
                    self.preprocess.append(ConvNorm(channels, layer.channels, 1, 1, config.norm_affine))
        self.edges = nn.ModuleList(
            Edge(choices, layer, layer.stride if source < self.wiring.inputs else 1, config)
            for choices, (source, _) in zip(operations, self.wiring.edges, strict=True)
        )

    def forward(self, *inputs: Tensor, run_edge: Callable[[int, Edge, Tensor], Tensor]) -> Tensor:
        """Runs the cell.

        Args:
            *inputs: (batch, channels, H, W), the outputs of the cells before it, the last one last.
            run_edge: Number of the edge, edge, its input -> its output.
        """
        nodes = list(inputs)
        for number, prepare in enumerate(self.preprocess):
            nodes[number] = prepare(nodes[number])
        return collect(self.wiring, nodes, lambda number, x: run_edge(number, self.edges[number], x))


def collect(wiring: Wiring, nodes: list[Tensor], run_edge: Callable[[int, Tensor], Tensor]) -> Tensor:
    """The output of a cell whose first nodes are given."""
    for target in range(wiring.inputs, wiring.inputs + wiring.nodes):
        into = [(number, source) for number, (source, end) in enumerate(wiring.edges) if end == target]
        nodes.append(sum(run_edge(number, nodes[source]) for number, source in into))
    return torch.cat(nodes[wiring.inputs :], dim=1) if wiring.concat else nodes[-1]


class ResidualReduction(nn.Module):
    """The residual block of stride 2 between the stages of NAS-Bench-201 (arXiv:2001.00326, section 2.1)."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.first = ConvNorm(channels, out_channels, 3, 2, True)
        self.second = ConvNorm(out_channels, out_channels, 3, 1, True)
        self.shortcut = nn.Conv2d(channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(F.avg_pool2d(x, 2)) + self.second(self.first(x))


class AuxiliaryHead(nn.Module):
    """The second classifier of DARTS, at two thirds of the depth. On ImageNet it has no last batch norm, as in DARTS's code."""

    def __init__(self, channels: int, config: TangleCellsConfig):
        super().__init__()
        last = nn.Identity() if config.stem == "imagenet" else nn.BatchNorm2d(768)
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, config.auxiliary_stride, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            last,
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, config.num_labels)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


class TangleCellsPreTrainedModel(PreTrainedModel):
    """Weights of convolutions are drawn as for ResNets (arXiv:1502.01852, fan out), of a group's own outputs."""

    config: TangleCellsConfig
    config_class = TangleCellsConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ["Cell"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            outputs = module.out_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
            init.normal_(module.weight, std=(2 / outputs) ** 0.5)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            init.uniform_(module.weight, -bound, bound)
            init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.BatchNorm2d):
            if module.affine:
                init.ones_(module.weight)
                init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)


class TangleCellsForImageClassification(TangleCellsPreTrainedModel):
    """An image classifier made of cells.

    `drop_path_rate` is an attribute that training may raise along the way; it starts as the config says.
    """

    def __init__(self, config: TangleCellsConfig):
        super().__init__(config)
        self.num_labels, self.drop_path_rate = config.num_labels, config.drop_path_rate
        layers, width = config.layers, config.hidden_size
        self.stem = _stem(config)
        self.cells = nn.ModuleList(
            ResidualReduction(*layer.inputs, layer.channels)
            if layer.kind == "residual"
            else Cell(layer, self.edge_operations(config, layer.kind), config)
            for layer in layers
        )
        features = layers[-1].channels * (config.wiring.nodes if config.wiring.concat else 1)
        if config.cell == "toy_cell":
            self.projection = nn.Linear(features * (layers[-1].size // 2) ** 2, 4 * width)
            features = 4 * width
        if config.cell == "nas_bench_201":
            self.norm = nn.BatchNorm2d(features)
        if config.auxiliary_weight:
            self.auxiliary = AuxiliaryHead(layers[2 * len(layers) // 3].channels * config.wiring.nodes, config)
        self.classifier = nn.Linear(features, config.num_labels)
        self.post_init()

    @staticmethod
    def edge_operations(config: TangleCellsConfig, kind: str) -> tuple[tuple[str, ...], ...]:
        """What each edge of a kind of cell can be: here, one operation."""
        return tuple((operation,) for operation in config.operations[kind])

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor | None = None, labels: Tensor | None = None, **kwargs
    ) -> ImageClassifierOutputWithNoAttention:
        """Classifies images.

        Args:
            pixel_values: Images (batch, channels, height, width).
            labels: Classes (batch,), or what the loss function takes.
            **kwargs: As in transformers.
        """
        rate = self.drop_path_rate if self.training else 0.0
        logits, auxiliary = self.classify(pixel_values, lambda kind, number, edge, x: edge(x, rate))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config, **kwargs)
            if auxiliary is not None:
                second = self.loss_function(labels, auxiliary, self.config, **kwargs)
                loss = loss + self.config.auxiliary_weight * second
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)

    def classify(
        self, pixel_values: Tensor, run_edge: Callable[[str, int, Edge, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Logits, and those of the second classifier in training.

        Args:
            pixel_values: Images.
            run_edge: Kind of the cell, number of the edge, edge, its input -> its output.
        """
        size, expected = tuple(pixel_values.shape[-2:]), self.config.image_size
        if size != (expected, expected):
            raise ValueError(f"images are {size}, this model takes {(expected, expected)}; resize them")
        config, x = self.config, pixel_values.to(self.dtype)
        states, auxiliary = self._stem(x), None
        for number, cell in enumerate(self.cells):
            if isinstance(cell, ResidualReduction):
                out = cell(*states)
            else:
                out = cell(*states, run_edge=lambda edge, module, x, kind=cell.kind: run_edge(kind, edge, module, x))
            if config.cell == "toy_cell":
                out = F.dropout(out, config.dropout, self.training)
            states = [*states[1:], out]
            if config.auxiliary_weight and self.training and number == 2 * len(self.cells) // 3:
                auxiliary = self.auxiliary(out)
        return self.classifier(self._features(states[-1])), auxiliary

    def _stem(self, x: Tensor) -> list[Tensor]:
        """What the first cell reads."""
        outputs = []
        for part in self.stem:
            x = part(x)
            outputs.append(x)
        return outputs if len(outputs) == self.config.wiring.inputs else [x] * self.config.wiring.inputs

    def _features(self, x: Tensor) -> Tensor:
        config = self.config
        if config.cell == "toy_cell":
            x = F.relu(self.projection(F.max_pool2d(x, 2).flatten(1)))
            return F.dropout(x, config.dropout, self.training)
        return (F.relu(self.norm(x)) if config.cell == "nas_bench_201" else x).mean((2, 3))


def _stem(config: TangleCellsConfig) -> nn.ModuleList:
    """Parts that run one after another; two of them where the first cell reads both."""
    if config.cell == "toy_cell":
        return nn.ModuleList()
    width = config.hidden_size * (STEM_MULTIPLIER if config.cell == "darts" else 1)
    if config.stem == "cifar":
        conv = nn.Conv2d(config.num_channels, width, 3, padding=1, bias=False)
        return nn.ModuleList([nn.Sequential(conv, nn.BatchNorm2d(width))])
    width = config.hidden_size

    def half(channels: int, out_channels: int) -> tuple[nn.Module, nn.Module]:
        return nn.Conv2d(channels, out_channels, 3, 2, 1, bias=False), nn.BatchNorm2d(out_channels)

    first = nn.Sequential(*half(config.num_channels, width // 2), nn.ReLU(), *half(width // 2, width))
    return nn.ModuleList([first, nn.Sequential(nn.ReLU(), *half(width, width))])


__all__ = ["TangleCellsForImageClassification"]
