"""Law 7 for networks of cells: checkpoints with their own code, that load where the library cannot be imported."""

import json
import subprocess
import sys

import pytest
import torch
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tangle_hf import ElasticCellsConfig, ElasticCellsForImageClassification, TangleCellsForImageClassification
from tangle_hf.subnets.exports import export


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
folder, pixels, out = sys.argv[1:]
model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True).eval()
with torch.no_grad():
    found = {"logits": model(torch.load(pixels)).logits.tolist(), "genotype": model.config.genotype}
found["trained"] = model(torch.load(pixels), labels=torch.tensor([1, 2])).loss.item()
image = Image.fromarray(torch.arange(192).view(8, 8, 3).byte().numpy())
found["pipeline"] = pipeline("image-classification", model=folder, top_k=10, trust_remote_code=True)(image)
json.dump(found, open(out, "w"))
"""


@pytest.mark.parametrize("entangled", [True, False])
def test_an_exported_net_of_cells_stands_alone(tmp_path, entangled):
    config = ElasticCellsConfig(
        cell="darts", hidden_size=4, num_cells=3, image_size=8, num_labels=10, entangled=entangled
    )
    supernet = ElasticCellsForImageClassification(config)
    shares = {kind: torch.rand(14, 8) for kind in supernet.space.choices}
    arch, x = supernet.most_likely(shares), torch.randn(2, 3, 8, 8)
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    written = export(supernet, arch, tmp_path / "net", {"pixel_values": x}, processor=processor)
    assert written.form == "compact" and written.difference <= 1e-5 * written.scale
    names = {path.name for path in written.folder.iterdir()}
    assert {"modeling_tangle_cells.py", "configuration_tangle_cells.py", "genotypes.py", "operations.py"} <= names
    assert "model.safetensors" in names
    config = json.loads((written.folder / "config.json").read_text())
    assert not {"space", "kept", "entangled", "kept_inputs"} & config.keys()
    assert config["normal"] == list(arch.normal) and config["genotype"].startswith("Genotype(normal=[")
    if not entangled:  # one process is enough
        return
    torch.save(x, tmp_path / "x.pt")
    paths = [str(tmp_path / name) for name in ("net", "x.pt", "out.json")]
    done = subprocess.run([sys.executable, "-c", LOADER, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    net = TangleCellsForImageClassification.from_pretrained(written.folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(found["logits"]), net(x).logits, rtol=1e-4, atol=1e-4)
    assert found["genotype"] == config["genotype"] and len(found["pipeline"]) == 10 and found["trained"] > 0
