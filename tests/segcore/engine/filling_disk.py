"""A disk that fills up while a checkpoint is written."""

import errno

import torch


def full_disk(monkeypatch, after):
    """Writing fails after so many bytes, as on a disk that fills up."""
    real = torch.save

    def save(value, stream):
        def write(data, left=[after]):  # noqa: B006  counts over calls
            left[0] -= len(data)
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return type(stream).write(stream, data)

        class Filling:
            def __getattr__(self, name):
                return write if name == "write" else getattr(stream, name)

        real(value, Filling())

    monkeypatch.setattr(torch, "save", save)
