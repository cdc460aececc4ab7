"""VoxCeleb from copies of its videos that lie on disk: the clips of FOMM's metadata as two prepared datasets
(`pipelines.record`), `train` and `test`.

    python -m data.prepare voxceleb --videos VIDEOS --metadata vox-metadata.csv --out OUT
"""

from typing import TYPE_CHECKING

from avfr_jax.packages import lazy_names

if TYPE_CHECKING:
    from data.voxceleb.metadata import Span, read_metadata
    from data.voxceleb.run import prepare

__all__ = ["Span", "prepare", "read_metadata"]

__getattr__ = lazy_names(__name__, {"metadata": ("Span", "read_metadata"), "run": ("prepare",)})
