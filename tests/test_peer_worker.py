"""The workers that time other programs: what they share, in a process of its own."""

import sys

import pytest

from benchmarks.fomm_inference import interleaved
from benchmarks.peer import PeerProcess

DRIVER = """\
import sys

from benchmarks.peer_worker import seconds_of, serve

assert not {"jax", "numpy"} & set(sys.modules)  # another program's Python need not have them
called = []


def answer(request):
    seconds = seconds_of(lambda: called.append(request["case"]), request["calls"])
    return {"seconds": seconds, "called": called, "words": sys.argv[1:]}


serve({"torch": "none"}, answer)
"""


@pytest.fixture
def peer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    process = PeerProcess(sys.executable, driver, "checkout", 2)
    yield process
    process.close()
    assert process.process.returncode == 0


def test_a_worker_answers_and_is_timed_in_turn_with_our_calls(peer, tmp_path):
    assert peer.version == "none"
    calls = {("frame", 1): lambda: None, ("frame", 8): lambda: None}
    seconds = interleaved(calls, 2, 3, peer, ("eager",))
    assert {key: {name: len(s) for name, s in own.items()} for key, own in seconds.items()} == {
        ("frame", 1): {"ours": 6, "eager": 6},
        ("frame", 8): {"ours": 2, "eager": 2},
    }
    answer = peer.ask(case="last", batch=1, compiled=False, calls=1)
    assert answer["words"] == [str(tmp_path / "checkout"), "2"]
    assert answer["called"] == ["frame"] * (2 + 6 + 2) + ["last"]  # once each before the rounds


def test_our_calls_are_timed_without_a_peer():
    assert list(interleaved({("frame", 8): lambda: None}, 1, 3, None)["frame", 8]) == ["ours"]
