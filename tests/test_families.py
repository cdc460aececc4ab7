import dataclasses
import subprocess
import sys

import pytest

from avfr_jax.errors import ConfigError
from avfr_jax.families import FAMILIES, find_family, resolve


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_record_resolves(family):
    config = family.config()
    assert dataclasses.is_dataclass(config)
    assert resolve(family.model_path).family == family.name
    assert resolve(family.objective).networks(family.config()) if family.objective else family.name == "landmark-warp"
    assert set(family.data(config)) <= {"priors", "landmarks", "mel"}
    assert family.size(config) > 0 if family.objective else not family.weights
    assert not family.weights or callable(resolve(f"{family.config_path.partition(':')[0]}:init"))


def test_unknown_family_is_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r"no model family 'fom'; there are fomm, mesh-fomm, avfr"):
        find_family("fom")


def test_listing_imports_no_network():
    code = "import sys; from avfr_jax.families import FAMILIES; assert not {'jax', 'flax'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
