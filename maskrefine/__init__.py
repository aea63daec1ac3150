"""Mask refiners and the detector that they work on."""
