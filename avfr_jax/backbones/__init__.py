"""Frozen networks made by others: perceptual features, LPIPS, and what mediapipe's wheel carries."""
