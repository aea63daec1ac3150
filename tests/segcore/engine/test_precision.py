"""What mixed precision leaves as it is."""

import torch
from torch import nn

from segcore.engine.launch import launch
from segcore.structures import Outputs, Prediction


class Network(nn.Module):
    """A prediction, a view's prediction and a feature map of one product."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)

    def forward(self, x):
        y = self.linear(x)
        said = Prediction(y, y)
        return Outputs([said], per_view=[said], features=[y])


def test_predictions_are_not_copied_into_float32():
    model = launch(device="cpu", precision="bf16").setup(Network())
    outputs = model(torch.ones(4, 2))
    for said in (*outputs.layers, *outputs.per_view):
        assert said.logits.dtype == said.masks.dtype == torch.bfloat16
    assert outputs.features[0].dtype == torch.float32


def test_without_mixed_precision_all_is_float32():
    outputs = launch(device="cpu").setup(Network())(torch.ones(4, 2))
    assert outputs.layers[0].masks.dtype == outputs.features[0].dtype == torch.float32
