"""What the tests of prepared models share: a plain model beside its prepared copy."""

import copy
from importlib import metadata

import pytest
import torch

from segcore.nn.backbones import FrozenBatchNorm2d
from segcore.nn.packed import missing_operator
from segcore.nn.prepared import prepare
from segcore.nn.winograd import use_winograd

needs_onednn = pytest.mark.skipif(bool(missing_operator()), reason=f"no {missing_operator()}")


def needs_kernels(version):
    """Marks a test of what the compiled kernels do since a version of ops/."""
    try:
        found = metadata.version("MultiScaleDeformableAttention")
    except metadata.PackageNotFoundError:
        found = "0"
    numbers = [[int(part) for part in text.split(".")] for text in (found, version)]
    return pytest.mark.skipif(numbers[0] < numbers[1], reason=f"ops/ is {found}, not {version}")


def randomised(model):
    """In eval mode, with norms that do something."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d | torch.nn.BatchNorm2d):
            for value in (module.weight, module.running_var):
                value.data.uniform_(0.5, 1.5)
            for value in (module.bias, module.running_mean):
                value.data.normal_(std=0.1)
    return model.eval()


def both(model, own, kind=torch.float32):
    """The plain model and a prepared copy; in float32 by Winograd's algorithm, where it is."""
    plain = randomised(model)
    prepared = prepare(copy.deepcopy(plain), kind, own)
    use_winograd(prepared)
    return plain, prepared.eval()  # as whoever evaluates it does


def assert_alike(mine, wanted, bound=1e-5):
    """The largest difference is below a share of the largest value."""
    assert mine.shape == wanted.shape
    assert float((mine.float() - wanted.float()).abs().max() / wanted.abs().max()) < bound


def assert_a_hook_still_runs(model, own, name, run):
    """One that is set before a model is prepared: as often as before, and the result is the same.

    Args:
        run: of a model, a result's tensors.
    """
    calls = []
    model.get_submodule(name).register_forward_hook(lambda *_: calls.append(1))
    plain, prepared = both(model, own)
    with torch.inference_mode():
        wanted, often = run(plain), len(calls)
        for mine, other in zip(run(prepared), wanted, strict=True):
            assert_alike(mine, other)
    assert often and len(calls) == 2 * often


def pixels(*shape, seed=0):
    """uint8 noise and the sizes (B, T, 2) of its images."""
    made = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=made)
    return images, torch.tensor(shape[-2:]).expand(*shape[:2], 2)
