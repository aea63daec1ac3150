"""Swin against its definition written out token by token, and its bookkeeping."""

import pytest
import torch
from torch.nn import functional as F

from segcore.nn.swin import DropPath, PatchMerging, Swin, shift_mask

SMALL = {"embed_dim": 8, "depths": (2, 2, 2, 2), "num_heads": (2, 2, 4, 4), "window_size": 3}


def small(**changes):
    torch.manual_seed(0)
    return Swin(**(SMALL | changes))


def plain_attention(block, x):
    """One image (h, w, C): every window and every pair of tokens, by the definition."""
    h, w, channels = x.shape
    size, shift, attn = block.window, block.shift, block.attn
    high, wide = -(-h // size) * size, -(-w // size) * size
    padded = x.new_zeros(high, wide, channels)
    padded[:h, :w] = x  # padding comes after the norm and is not masked
    qkv = attn.qkv(padded).unflatten(-1, (3, attn.num_heads, -1))
    dim = qkv.shape[-1]
    out = torch.zeros_like(padded)

    def region(at, length):  # which part of the rolled axis a place belongs to
        return 0 if at < length - size else 1 if at < length - shift else 2

    for top in range(0, high, size):
        for left in range(0, wide, size):
            cells = [(y, x) for y in range(top, top + size) for x in range(left, left + size)]
            source = [((y + shift) % high, (x + shift) % wide) for y, x in cells]
            q, k, v = torch.stack([qkv[y, x] for y, x in source]).permute(1, 2, 0, 3)
            logits = q @ k.transpose(1, 2) * dim**-0.5
            for i, (yi, xi) in enumerate(cells):
                for j, (yj, xj) in enumerate(cells):
                    row = (yi - yj + size - 1) * (2 * size - 1) + xi - xj + size - 1
                    logits[:, i, j] += attn.relative_position_bias_table[row]
                    near = [region(a, n) for a, n in ((yi, high), (xi, wide))]
                    far = [region(a, n) for a, n in ((yj, high), (xj, wide))]
                    if shift and near != far:
                        logits[:, i, j] -= 100
            mixed = (logits.softmax(-1) @ v).transpose(0, 1).flatten(1)
            for (y, x), value in zip(source, mixed, strict=True):
                out[y, x] = value
    return attn.proj(out)[:h, :w]


@pytest.mark.parametrize("shifted", [0, 1])
@pytest.mark.parametrize("size", [(6, 6), (7, 4), (2, 1)], ids=str)
def test_window_attention_is_its_definition(shifted, size):
    block = small().layers[0].blocks[shifted]
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    assert block.shift == shifted
    x = torch.randn(2, *size, 8)
    with torch.no_grad():
        wanted = torch.stack([plain_attention(block, image) for image in x])
        torch.testing.assert_close(block._attend(x), wanted, rtol=1e-5, atol=1e-5)


def test_block_is_two_residual_branches():
    block = small().layers[0].blocks[0].eval()
    x = torch.randn(1, 5, 7, 8)
    middle = x + block._attend(F.layer_norm(x, (8,)))
    hidden = F.gelu(block.mlp.fc1(F.layer_norm(middle, (8,))))
    torch.testing.assert_close(block(x), middle + block.mlp.fc2(hidden))


def test_merging_takes_its_four_phases_in_the_published_order():
    merge = PatchMerging(1)
    merge.norm = merge.reduction = torch.nn.Identity()
    x = torch.arange(6.0).reshape(1, 2, 3, 1)  # 0 1 2 / 3 4 5, one column is padded
    assert merge(x)[0, 0].tolist() == [[0, 3, 1, 4], [2, 5, 0, 0]]


@pytest.mark.parametrize("size", [(64, 64), (37, 90)], ids=str)
def test_any_size_and_batch_equals_one_by_one(size):
    model = small().eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        both, single = model(images), model(images[1:])
    height, width = (-(-n // 4) for n in size)
    for pair, one, channels in zip(both, single, model.channels, strict=True):
        assert pair.shape == (2, channels, height, width)
        torch.testing.assert_close(pair[1:], one, rtol=1e-4, atol=1e-5)
        height, width = -(-height // 2), -(-width // 2)


def test_checkpointing_gives_the_same_gradients():
    images = torch.randn(1, 3, 32, 40)
    models = small(drop_path_rate=0.0), small(drop_path_rate=0.0, use_checkpoint=True)
    for model in models:
        sum(x.square().mean() for x in model.train()(images)).backward()
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_masks_are_made_once_a_size():
    device = torch.device("cpu")
    assert shift_mask(6, 9, 3, 1, device) is shift_mask(6, 9, 3, 1, device)
    assert shift_mask(6, 9, 3, 1, device).shape == (6, 9, 9)


def test_depth_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    out = DropPath(0.25).train()(torch.ones(4000, 2, 3))
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(out.amin((1, 2)), out.amax((1, 2)))
    assert float(out.mean()) == pytest.approx(1, abs=0.03)
    rates = [b.drop_path.rate for s in small(drop_path_rate=0.7).layers for b in s.blocks]
    assert rates == pytest.approx([0.1 * i for i in range(8)])


def test_entries_and_parameters_of_swin_tiny():
    model = Swin()
    assert len(model.state_dict()) == 189
    assert sum(p.numel() for p in model.parameters()) == 27_520_698
