"""Strangers' files become plain values here."""
