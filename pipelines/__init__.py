"""Input pipelines: prepared clips -> batches of frame pairs on devices, and their augmentation.

`record` declares the form on disk, `sources` reads frames, `sampling` chooses them, `loader` makes batches with grain,
`prefetch` transfers them to devices ahead of the step, `augment` and `warp` change them there.
"""
