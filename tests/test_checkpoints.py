import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from avfr_jax.checkpoints import flatten, load_arrays, restore_tree, save_arrays, save_tree, tree_digest, unflatten
from avfr_jax.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
NAMES = st.text("abc_0", min_size=1, max_size=4)
ARRAYS = arrays.arrays(
    st.sampled_from([np.float32, np.float16, np.int32, np.uint8, np.bool_]),
    arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
)
TREES = st.dictionaries(NAMES, st.recursive(ARRAYS, lambda inner: st.dictionaries(NAMES, inner, min_size=1)))
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=CHECKS)
@given(TREES, st.dictionaries(NAMES, st.text(max_size=6), max_size=2))
def test_arrays_round_trip(tmp_path, tree, metadata):
    path = tmp_path / "a.safetensors"
    transposed = jax.tree.map(np.transpose, tree)
    for values in (tree, transposed):  # the second is not contiguous
        save_arrays(path, values, metadata)
        again, about = load_arrays(path)
        assert jax.tree.structure(again) == jax.tree.structure(values)
        assert tree_digest(again) == tree_digest(values)
        assert about == metadata
        assert tree_digest(unflatten(flatten(values))) == tree_digest(values)


def test_orbax_round_trip_and_damage(tmp_path):
    tree = {"net": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}}
    save_tree(tmp_path / "tree", tree)
    assert tree_digest(restore_tree(tmp_path / "tree", tree)) == tree_digest(tree)
    for expected in ({"net": {"w": np.zeros((3, 2), np.float32)}}, {"net": {"v": tree["net"]["w"]}}):
        with pytest.raises(CheckpointError, match=r"damaged|another config"):
            restore_tree(tmp_path / "tree", expected)
    with pytest.raises(CheckpointError, match="missing"):
        restore_tree(tmp_path / "none", tree)
    with pytest.raises(CheckpointError, match="missing"):
        load_arrays(tmp_path / "none")


@pytest.mark.parametrize("data", [b"", b"\0" * 8, b"\xff" * 64, b"\x02" + b"\0" * 7 + b"{}x"])
def test_damaged_files_are_refused(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        load_arrays(tmp_path / "a")
