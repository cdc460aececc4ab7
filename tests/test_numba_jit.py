import numba
import pytest

from avfr_jax.numba_jit import njit


def _double(x):
    return 2 * x


@pytest.mark.parametrize("writable", [True, False])
def test_functions_are_compiled_whether_or_not_a_cache_can_be_written(writable, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path if writable else tmp_path / "file" / "x"))
    if not writable:
        found = numba.core.caching.CacheImpl._locator_classes
        monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", found[:1])  # not beside the source file
    compiled = njit(_double, nogil=True)
    assert compiled(3) == 6
    assert compiled.targetoptions["nogil"]
    assert (compiled.stats.cache_path is not None) == writable
