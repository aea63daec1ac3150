"""Mask2Former trained on a CPU has the plain model's losses and gradients."""

import copy

import pytest
import torch
from prepared_models import needs_onednn, pixels, randomised
from tiny_model import model_of

from mask2former.cpu_training import TRAINED
from mask2former.criterion import Criterion
from mask2former.matcher import Matcher, Weights
from segcore.nn.cpu_training import train_on_cpu
from segcore.structures import Targets

pytestmark = needs_onednn


def objects(T, H, W):
    """Two rectangles, the second in the first view alone."""
    masks = torch.zeros(2, T, H, W, dtype=torch.bool)
    masks[0, :, : H // 2, : W // 3] = masks[1, :1, H // 3 :, W // 2 :] = True
    return Targets(torch.tensor([0, 1]), masks, masks.flatten(2).any(2))


def learned(model, B, T, H, W, dtype=torch.float32):
    """Losses and gradients of a step with the same random points every time."""
    torch.manual_seed(1)
    matcher = Matcher(Weights(), 60)
    criterion = Criterion(matcher=matcher, weights=Weights(), num_points=60)
    targets = [objects(T, H, W)] * B
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        layers = model(*pixels(B, T, 3, H, W), targets).layers
        losses = criterion(layers, targets, 2.0 * B)
    model.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    return losses, {k: p.grad for k, p in model.named_parameters() if p.grad is not None}


def both(root, winograd=True):
    torch.manual_seed(1)  # of weights that rounding turns no ReLU and no query's cells of
    plain = randomised(model_of(root)).train()
    mine = copy.deepcopy(plain)
    train_on_cpu(mine, TRAINED, winograd=winograd)
    return plain, mine


@pytest.mark.parametrize("winograd", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 64, 96), (2, 1, 50, 70), (2, 3, 64, 64)])
def test_losses_and_gradients_equal_the_plain_models(root, shape, winograd):
    plain, mine = both(root, winograd)
    assert mine.state_dict().keys() == plain.state_dict().keys()
    losses, gradients = learned(plain, *shape)
    others, found = learned(mine, *shape)
    assert found.keys() == gradients.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(others[name], loss, atol=1e-5, rtol=1e-5)
    for name, wanted in gradients.items():
        assert (found[name] - wanted).norm() < 1e-3 * wanted.norm() + 1e-6, name


def test_bf16_is_as_near_to_fp32_as_the_plain_model(root):
    plain, mine = both(root)
    shape = (1, 1, 64, 96)
    exact = learned(plain, *shape)[0]
    theirs, ours = (learned(model, *shape, torch.bfloat16)[0] for model in (plain, mine))
    errors = [
        torch.stack([(losses[k] - exact[k]).abs() for k in exact]).mean()
        for losses in (theirs, ours)
    ]
    assert errors[1] < 1.5 * errors[0] + 0.01


def test_eval_mode_says_what_the_plain_model_says(root):
    plain, mine = both(root)
    with torch.inference_mode():
        images = pixels(1, 1, 3, 64, 64)
        wanted, found = (m.eval()(*images, aux=False).layers[-1] for m in (plain, mine))
    torch.testing.assert_close(found.logits, wanted.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.masks, wanted.masks, atol=1e-4, rtol=1e-4)
