"""Properties of the model: views, batches, queries, padding, gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mask2former.decoder import MaskedDecoder
from mask2former.model import Mask2Former
from mask2former.pixel_decoder import PixelDecoder
from segcore.nn.layers import Attention, Normalise

CHANNELS = (8, 12, 16, 20)


class Pyramid(nn.Module):
    """Four maps at strides 4 to 32, by plain convolutions."""

    channels = CHANNELS
    strides = (4, 8, 16, 32)

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(3, c, s, stride=s) for c, s in zip(CHANNELS, self.strides, strict=True)
        )

    def forward(self, images):
        return [conv(images) for conv in self.convs]


def small_model(video=False):
    torch.manual_seed(0)
    model = Mask2Former(
        backbone=Pyramid(),
        pixel_decoder=PixelDecoder(
            CHANNELS, dim=32, mask_dim=24, num_heads=4, num_layers=2, ffn_dim=48
        ),
        decoder=MaskedDecoder(
            num_classes=5, num_queries=7, dim=32, mask_dim=24, num_heads=4, ffn_dim=48, num_layers=4
        ),
        pixel_mean=[120.0, 110.0, 100.0],
        pixel_std=[50.0, 60.0, 70.0],
        video=video,
    )
    return model.eval()


def images(B=1, T=1, H=64, W=96, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (B, T, 3, H, W), dtype=torch.uint8, generator=generator)


def whole(pixels):
    B, T, _, H, W = pixels.shape
    return torch.tensor([H, W]).expand(B, T, 2)


def same(found, wanted):
    torch.testing.assert_close(found.logits, wanted.logits, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found.masks, wanted.masks, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_shapes_of_all_predictions():
    pixels = images(2)
    out = small_model()(pixels, whole(pixels))
    assert len(out.layers) == 5 and len(out.features) == 4
    for layer in out.layers:
        assert layer.logits.shape == (2, 7, 6) and layer.masks.shape == (2, 7, 1, 16, 24)


@torch.no_grad()
def test_a_batch_says_what_its_images_say_alone():
    pixels, model = images(3), small_model()
    together = model(pixels, whole(pixels)).layers
    for i in range(3):
        alone = model(pixels[i : i + 1], whole(pixels[i : i + 1])).layers
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a.logits[0], b.logits[i], atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(a.masks[0], b.masks[i], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_pixels_in_the_padding_are_not_seen():
    pixels, model = images(1), small_model()
    sizes = torch.tensor([[[50, 70]]])
    before = model(pixels, sizes).layers[-1]
    pixels[..., 50:, :] = 7
    pixels[..., 70:] = 250
    same(model(pixels, sizes).layers[-1], before)
    inside = images(1)
    inside[..., 0, 0] = 255 - inside[..., 0, 0]
    assert not torch.equal(model(inside, sizes).layers[-1].masks, before.masks)


def test_normalise_leaves_its_input_alone():
    pixels = images(2, 2, 8, 9)
    before = pixels.clone()
    sizes = torch.tensor([[[8, 9], [5, 9]], [[8, 4], [2, 3]]])
    out = Normalise(mean=[10.0] * 3, std=[2.0] * 3)(pixels, sizes)
    assert torch.equal(pixels, before) and out.shape == (4, 3, 8, 9)
    for view, original, (h, w) in zip(out, pixels.flatten(0, 1), sizes.flatten(0, 1), strict=True):
        assert torch.equal(view[:, :h, :w], (original[:, :h, :w] - 10.0) / 2)
        assert not view[:, h:].any() and not view[:, :, w:].any()


@torch.no_grad()
def test_permuted_queries_permute_what_they_say():
    pixels, model = images(1), small_model()
    before = model(pixels, whole(pixels)).layers[-1]
    order = torch.tensor([3, 1, 6, 0, 5, 2, 4])
    for table in (model.decoder.query_feat, model.decoder.query_embed):
        table.weight.copy_(table.weight[order])
    after = model(pixels, whole(pixels)).layers[-1]
    torch.testing.assert_close(after.logits, before.logits[:, order], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(after.masks, before.masks[:, order], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_the_short_path_says_the_same_last_word():
    for T in (1, 2):
        pixels, model = images(2, T), small_model()
        (short,) = model(pixels, whole(pixels), aux=False).layers
        same(short, model(pixels, whole(pixels)).layers[-1])


@torch.no_grad()
def test_a_video_of_one_frame_says_what_the_still_says():
    """The code of the only frame is added to all keys alike, which attention does not notice."""
    pixels, model = images(1), small_model()
    still = model(pixels, whole(pixels)).layers[-1]
    model.video = True
    same(model(pixels, whole(pixels)).layers[-1], still)


@torch.no_grad()
def test_frames_share_their_queries():
    pixels, model = images(2, 3), small_model()
    answer = model(pixels, whole(pixels)).layers[-1]
    assert answer.logits.shape == (2, 7, 6) and answer.masks.shape == (2, 7, 3, 16, 24)
    alone = model(pixels[1:], whole(pixels[1:])).layers[-1]
    torch.testing.assert_close(answer.masks[1:], alone.masks, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("mixed", [False, True], ids=["fp32", "bf16"])
def test_every_parameter_learns(mixed):
    """Also where autocast might keep a weight that was cast without a gradient."""
    model, pixels = small_model().train(), images(1)
    for layer in model.pixel_decoder.transformer.encoder.layers:
        # at zero, as they start, nothing flows through them to the level embedding
        nn.init.normal_(layer.self_attn.sampling_offsets.weight, std=0.1)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        out = model(pixels, whole(pixels))
    sum(
        layer.logits.square().sum() + layer.masks.square().mean() for layer in out.layers
    ).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_masked_attention_is_torchs():
    torch.manual_seed(0)
    ours, theirs = Attention(16, 4), nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    q, k, v = torch.randn(2, 5, 16), torch.randn(2, 9, 16), torch.randn(2, 9, 16)
    readable = torch.rand(2, 5, 9) > 0.4
    readable[..., 0] = True
    wanted = theirs(q, k, v, attn_mask=~readable.repeat_interleave(4, 0), need_weights=False)[0]
    torch.testing.assert_close(ours(q, k, v, readable), wanted)
    wanted = theirs(q, q, q, need_weights=False)[0]
    torch.testing.assert_close(ours(q, q, q), wanted)


def test_attention_starts_as_torchs():
    """Also for the same seed, whatever is drawn later."""
    starts = []
    for kind in (Attention, nn.MultiheadAttention):
        torch.manual_seed(0)
        starts.append((kind(16, 4).state_dict(), torch.rand(2)))
    (ours, next_ours), (theirs, next_theirs) = starts
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(next_ours, next_theirs)


@torch.no_grad()
def test_queries_read_inside_their_masks_and_empty_ones_everywhere(monkeypatch):
    """What reaches attention, against the published rule on the same predictions."""
    pixels, model = images(1), small_model()
    model.decoder.mask_embed.layers[-1].bias.copy_(torch.randn(24))
    seen = []
    plain = Attention.forward

    def watch(self, query, key, value, readable=None):
        if readable is not None:
            seen.append(readable)
        return plain(self, query, key, value, readable)

    monkeypatch.setattr(Attention, "forward", watch)
    layers = model(pixels, whole(pixels)).layers
    for i, (readable, layer) in enumerate(zip(seen, layers, strict=False)):
        size = [(2, 3), (4, 6), (8, 12)][i % 3]
        blocked = F.interpolate(layer.masks[:, :, 0], size, mode="bilinear").sigmoid() < 0.5
        blocked = blocked.flatten(2)
        blocked[blocked.all(-1)] = False
        assert torch.equal(readable, ~blocked)
    assert len(seen) == 4


@pytest.mark.parametrize("heads", [4, 8])
def test_sampling_starts_in_the_directions_of_a_square(heads):
    decoder = PixelDecoder(CHANNELS, dim=32, num_heads=heads, num_layers=1)
    bias = decoder.transformer.encoder.layers[0].self_attn.sampling_offsets.bias.unflatten(
        0, (heads, 3, 4, 2)
    )
    for point in range(4):  # point k lies k + 1 cells away, on a square
        torch.testing.assert_close(
            bias[:, :, point].abs().amax(-1), torch.full((heads, 3), point + 1.0)
        )
    torch.testing.assert_close(bias[0, 0, 0], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(bias[heads // 4, 0, 0], torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)
