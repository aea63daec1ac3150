"""How often a step and results call a GPU and make the host wait; on a GPU that is none."""

from pathlib import Path

import gpu_op
import gpu_stand_in
import pytest

pytestmark = pytest.mark.slow

R50 = "configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"
CROPS = "configs/entityv2/entity_segmentation/cropformer_swin_tiny_3x.yaml"
SHAPES = ("2x12", "16x12", "2x1", "2x0")  # images, segments of each


@pytest.fixture(autouse=True)
def op(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch):
    """The compiled attention, which Triton's compiler would be needed for otherwise."""
    monkeypatch.setenv("PYTHONPATH", f"{gpu_op.package(tmp_path)}:{root}")


def steps(library: Path, root: Path, config: str) -> list[list[int]]:
    said = gpu_stand_in.run_file(library, root / "tests/gpu_step.py", root / config, *SHAPES)
    return [[int(word) for word in line.split()] for line in said.splitlines()[-len(SHAPES) :]]


def test_a_step_waits_for_its_costs_and_its_numbers_alone(stand_in: Path, root: Path):
    two, sixteen, one_object, none = steps(stand_in, root, R50)
    assert two[0] <= 3000 and sixteen[0] <= 4000
    assert all(waits <= 2 for _, waits, _ in (two, sixteen, one_object, none))
    # the step's counts, indices and sizes leave from pinned memory
    assert [pageable for *_, pageable in (two, sixteen, one_object, none)] == [0] * 4


def test_a_step_of_cropformer_has_one_copy_a_pass(stand_in: Path, root: Path):
    two, sixteen, one_object, none = steps(stand_in, root, CROPS)
    assert two[0] <= 5500 and sixteen[0] <= 8500
    assert all(waits <= 3 for _, waits, _ in (two, sixteen, one_object, none))


def test_results_wait_a_few_times_an_image(stand_in: Path, root: Path):
    said = gpu_stand_in.run_file(stand_in, root / "tests/gpu_results.py").splitlines()
    (calls, waits), (crop_calls, crop_waits) = (map(int, line.split()) for line in said[-2:])
    assert waits <= 4 and calls <= 400
    assert crop_waits <= 4 and crop_calls <= 9000
