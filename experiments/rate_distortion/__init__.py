"""Video codecs on talking heads: how many bits they need, and what is left of the face.

    python -m experiments.rate_distortion CLIPS --output runs/rates

`base` says what a codec is, `registry` names those there are, `rivals` are FFmpeg's, `measure` measures one point of a
curve, `papers` holds the published rows, `report` writes tables and `plots` draws the curves.
"""
