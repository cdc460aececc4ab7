"""Video, pictures and audio in and out; watermarks. Modules import `av`, `cv2` and `PIL` as they need them."""
