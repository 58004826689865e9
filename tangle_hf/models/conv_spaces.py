"""The convolutional spaces of TangleNAS (arXiv:2312.10440, appendix C) with sizes to choose, ready to search."""

from ..space import PerLayer, SearchSpace


CONV_MACRO = SearchSpace(
    channels_1=[8, 16, 32],
    channels_2=[16, 32, 64],
    channels_3=[32, 64, 128],
    channels_4=[64, 128, 256],
    kernel_size=PerLayer([3, 5, 7], rows=4),
)

# Once-for-all's (arXiv:1908.09791, section 4.1); about 10^19 architectures.
OFA_MOBILENETV3 = SearchSpace(
    depths=PerLayer([2, 3, 4], rows=5),
    kernel_size=PerLayer([3, 5, 7]),
    expand_ratio=PerLayer([3, 4, 6]),
)
