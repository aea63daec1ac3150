"""Tracks of long videos: windows of frames, and what joins them."""
