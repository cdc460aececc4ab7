"""Rate-distortion measurements of video codecs on talking heads: `python -m experiments.rate_distortion CLIPS`.

`base` declares the codec interface, `registry` lists the codecs, `rivals` are FFmpeg's and `ours` this project's,
`measure` computes the figures, `papers` holds published rows, `report` writes tables and `plots` the curves.
"""
