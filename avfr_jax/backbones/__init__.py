"""Frozen networks made by others: VGG, AlexNet, LPIPS, face descriptor and landmarks, mediapipe's networks."""
