"""A metric: the share of annotated pixels that have the right class."""

import numpy as np

from segcore.labels import semantic_map


class Accuracy:
    """Of semantic results; parts are (right, annotated) pixels of each image."""

    def __init__(self, metadata, *, kinds, truth):
        self.metadata, self.kinds = metadata, kinds
        self.parts = []

    def update(self, result, record):
        """Compare one image."""
        truth = semantic_map(record.frames[0], self.metadata)
        right = (result.semantic.numpy() == truth) & (truth >= 0)
        self.parts.append((int(right.sum()), int((truth >= 0).sum())))

    def compute(self):
        """In percent."""
        right, annotated = np.sum(self.parts, axis=0)
        return {"accuracy": 100.0 * right / annotated}
