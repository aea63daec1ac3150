"""Backbone, pixel decoder and decoder are compiled for images of all sizes."""

import pytest
import torch
from tiny_model import model_of
from torch import nn
from torch._dynamo.testing import CompileCounter

from segcore.engine.compile import compile_parts

PARTS = ("backbone", "pixel_decoder", "decoder")


def said(model, size, count=2):
    generator = torch.Generator().manual_seed(size[0])
    shape = (count, 1, 3, *size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    sizes = torch.tensor(size).expand(count, 1, 2)
    with torch.no_grad():
        answer = model(images, sizes, aux=False).layers[-1]
    return answer.logits, answer.masks


@pytest.mark.slow
def test_a_few_graphs_serve_all_sizes(root):
    torch._dynamo.reset()
    model, counter = model_of(root).eval(), CompileCounter()
    names = list(model.state_dict())
    sizes = [(64, 96), (96, 64), (128, 160)]
    wanted = [said(model, size) for size in sizes]
    compile_parts(model, PARTS, backend=counter)
    found = [said(model, size) for size in sizes]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    # one a part; torch takes equal numbers for one, so that in the first images 2 rows of cells are
    # the batch of 2, which costs two parts a second graph for the second size; none for the third
    assert counter.frame_count <= 5
    assert list(model.state_dict()) == names


@pytest.mark.slow
def test_inductor_computes_a_part_and_its_gradients():
    """The default backend itself, from the entry that `compile_parts` takes."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"part": nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))})
    tokens = torch.randn(5, 8, requires_grad=True)
    weight = model["part"][0].weight
    plain = model["part"](tokens)
    slopes = torch.autograd.grad(plain.square().sum(), (tokens, weight))
    compile_parts(model, ("part",))
    ours = model["part"](tokens)
    torch.testing.assert_close(ours, plain)
    compiled = torch.autograd.grad(ours.square().sum(), (tokens, weight))
    torch.testing.assert_close(compiled, slopes, rtol=1e-4, atol=1e-5)
