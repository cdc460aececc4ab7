"""Input pipelines: prepared clips -> batches of frame pairs on devices, and their augmentation.

`sources` reads frames, `sampling` says which, `loader` makes batches of them with grain, `prefetch` puts them on
devices ahead of the step, `augment` changes them there.
"""
