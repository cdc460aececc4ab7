"""Video, pictures and sound in and out, and the mark that says a video is generated.

Nothing is imported here: `av`, `cv2` and `PIL` are only needed by the modules that use them.
"""
