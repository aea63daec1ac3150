"""The README's Python runs as it stands there, on drawn data and with a small model."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import make_dataset

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """_BASE_: {base}
INPUT: {{DATASET_MAPPER_NAME: mask_former_instance}}
SOLVER: {{MAX_ITER: 2}}
MODEL: {{DEVICE: cpu, MASK_FORMER: {{TEST: {{OBJECT_MASK_THRESHOLD: 0.0}}}}}}
"""


def test_importing_segcore_is_light():
    code = "import sys, segcore; assert 'Predictor' in dir(segcore); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.slow
def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    make_dataset(tmp_path / "my")
    (tmp_path / "my/instances.json").rename(tmp_path / "my/train.json")
    (tmp_path / "my/val.json").write_bytes((tmp_path / "my/train.json").read_bytes())
    (tmp_path / "street.jpg").write_bytes((tmp_path / "my/images/00.png").read_bytes())
    base = ROOT / "configs/tiny/panoptic_tiny.yaml"
    (tmp_path / "tiny.yaml").write_text(CONFIG.format(base=base))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    code = "".join(blocks)
    for theirs, ours in (  # what takes hours or comes from elsewhere
        ("small/instance_lite0.yaml", "tiny.yaml"),
        ('"MAX_ITER": 300', '"MAX_ITER": 1'),
        ("coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml", "out/config.yaml"),
        ("model_final_94dc52.pkl", "out/model_final.pth"),
        ("threshold=0.5", "threshold=0.0"),
    ):
        assert theirs in code
        code = code.replace(theirs, ours)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert names["run"].weights.is_file()
    assert names["run"].output == Path("out")
    assert (tmp_path / "street.png").is_file()
    assert len(names["detections"]) == len(names["result"].to_coco()) > 0
