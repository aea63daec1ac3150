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


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_kinds_that_onednn_lacks_are_computed_as_by_the_plain_model(root, dtype):
    plain, mine = both(root)
    if dtype == torch.float64:
        plain, mine, dtype = plain.double(), mine.double(), torch.float32
    wanted, found = (learned(model, 1, 1, 64, 96, dtype)[0] for model in (plain, mine))
    for name, loss in wanted.items():
        torch.testing.assert_close(found[name], loss, atol=2e-3, rtol=1e-3)


def called(model):
    """Names of the modules whose hooks a step runs, and its losses."""
    names = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: names.append(name))
    losses = learned(model, 1, 1, 64, 96)[0]
    return sorted(names), losses


def test_hooks_of_every_module_run_as_often_as_the_plain_models(root):
    plain, mine = both(root)
    (names, losses), (others, found) = called(plain), called(mine)
    assert others == names and "pixel_decoder.mask_features" in names
    for name, loss in losses.items():
        torch.testing.assert_close(found[name], loss, atol=1e-5, rtol=1e-5)


class Doubled(torch.nn.Module):
    """A layer of a user's around another, as adapters of few weights are."""

    def __init__(self, inside):
        super().__init__()
        self.inside, self.weight, self.bias = inside, inside.weight, inside.bias

    def forward(self, x):
        return 2 * self.inside(x)


def wrapped(model):
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.Linear) or name == "mask_features":
                setattr(parent, name, Doubled(child))
    return model


def test_layers_that_a_user_puts_around_others_afterwards_count(root):
    plain, mine = (wrapped(model) for model in both(root))
    wanted, found = (learned(model, 1, 1, 64, 96)[0] for model in (plain, mine))
    for name, loss in wanted.items():
        torch.testing.assert_close(found[name], loss, atol=1e-4, rtol=1e-4)


def test_eval_mode_says_what_the_plain_model_says(root):
    plain, mine = both(root)
    with torch.inference_mode():
        images = pixels(1, 1, 3, 64, 64)
        wanted, found = (m.eval()(*images, aux=False).layers[-1] for m in (plain, mine))
    torch.testing.assert_close(found.logits, wanted.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.masks, wanted.masks, atol=1e-4, rtol=1e-4)
