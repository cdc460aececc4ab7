"""Containers that name other files."""

import pytest

from avfr_jax.errors import InputError
from avfr_jax.media.audio import has_audio
from avfr_jax.media.video import VideoReader, is_video

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
PLAYLISTS = {
    "list.m3u8": HLS,
    "list.mp4": "ffconcat version 1.0\nfile {}\n",
    "list.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>',
}


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("target", ["clip.ts", "http://127.0.0.1:9/clip.ts"])
def test_playlist_opens_no_other_file(tmp_path, clip, name, target):
    clip("clip.ts", codec="mpeg2video", count=5)
    (tmp_path / name).write_text(PLAYLISTS[name].format(target))
    with pytest.raises(InputError, match="is a playlist, which names other files"):
        VideoReader(tmp_path / name)
    with pytest.raises(InputError, match="is a playlist"):
        has_audio(tmp_path / name)
    assert not is_video(tmp_path / name)
