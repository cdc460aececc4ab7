"""Frozen networks made by others: VGG, AlexNet, LPIPS and the networks of mediapipe's wheel."""
