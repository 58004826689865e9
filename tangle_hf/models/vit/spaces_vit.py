"""The vision spaces of the literature, ready to search: AutoFormer's (arXiv:2107.00651, table 1), used by TangleNAS, too.

Heads are 64 wide whatever the width of the net: `ElasticViTConfig(space=AUTOFORMER_T, head_dim=AUTOFORMER_HEAD_DIM)`.
TangleNAS lists the first space in its appendix C (arXiv:2312.10440). Some releases of AutoFormer's code leave 8 heads out of
the third one.
"""

from ...space import PerLayer, SearchSpace


AUTOFORMER_HEAD_DIM = 64

AUTOFORMER_T = SearchSpace(
    hidden_size=[192, 216, 240],
    num_hidden_layers=[12, 13, 14],
    num_attention_heads=PerLayer([3, 4]),
    mlp_ratio=PerLayer([3.5, 4]),
)
AUTOFORMER_S = SearchSpace(
    hidden_size=[320, 384, 448],
    num_hidden_layers=[12, 13, 14],
    num_attention_heads=PerLayer([5, 6, 7]),
    mlp_ratio=PerLayer([3, 3.5, 4]),
)
AUTOFORMER_B = SearchSpace(
    hidden_size=[528, 576, 624],
    num_hidden_layers=[14, 15, 16],
    num_attention_heads=PerLayer([8, 9, 10]),
    mlp_ratio=PerLayer([3, 3.5, 4]),
)
