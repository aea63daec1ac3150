"""Mask2Former, for images and video."""
