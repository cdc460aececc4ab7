"""Pictures of keypoints, occlusion and flow, checked against what they must show."""

import colorsys

import jax
import numpy as np
import pytest

from avfr_jax.training.panels import (
    colour_wheel,
    contact_sheet,
    flow_colours,
    keypoint_colours,
    render_displacement,
    render_keypoints,
    render_occlusion,
)


def test_the_wheel_goes_once_around_the_hues():
    wheel = colour_wheel()
    assert wheel.shape == (55, 3)
    hues = np.array([colorsys.rgb_to_hsv(*colour) for colour in wheel])
    assert (np.diff(hues[:, 0]) > 0).all()
    np.testing.assert_allclose(hues[:, 1:], 1, atol=1e-6)


def test_keypoints_are_dots_of_their_own_colour_at_their_places():
    black = np.zeros((2, 33, 65, 3), np.float32)
    points = np.array([[[-1, -1], [1, 1], [0, 0]], [[0.5, 0], [np.nan, 0], [9, 9]]], np.float32)
    rendered = np.asarray(jax.jit(render_keypoints)(black, points))
    colours = keypoint_colours(3)
    for n, row, column, k in ((0, 0, 0, 0), (0, 32, 64, 1), (0, 16, 32, 2), (1, 16, 48, 0)):
        np.testing.assert_allclose(rendered[n, row, column], colours[k], atol=1e-6)
    assert len({tuple(c) for c in keypoint_colours(10)}) == 10
    second = rendered[1].copy()
    second[13:20, 45:52] = 0
    assert not second.any()  # NaN and far outside: nothing
    inside = render_keypoints(black, np.array([[[-1, -1]]] * 2, np.float32), align_corners=False)
    assert np.asarray(inside)[0, 0, 0].max() > 0.5  # at the corner of the corner pixel


def test_still_flow_is_white_and_opposite_flows_have_opposite_hues():
    still = render_displacement(np.zeros((1, 8, 8, 2), np.float32), (16, 16))
    assert still.shape == (1, 16, 16, 3)
    np.testing.assert_allclose(still, 1, atol=1e-5)
    around = np.array([[[[1, 0], [0, 1], [-1, 0], [0, -1]]]], np.float32)
    hue = [colorsys.rgb_to_hsv(*c)[0] for c in np.asarray(flow_colours(around))[0, 0]]
    assert abs((hue[0] - hue[2] + 0.5) % 1 - 0.5) > 0.3
    assert abs((hue[1] - hue[3] + 0.5) % 1 - 0.5) > 0.3
    half = np.asarray(flow_colours(around / 2, largest=1.0))
    np.testing.assert_allclose(half, (1 + np.asarray(flow_colours(around, largest=1.0))) / 2, atol=1e-5)


def test_occlusion_is_grey_and_as_large_as_asked():
    rendered = np.asarray(render_occlusion(np.full((1, 4, 4, 1), 0.25, np.float32), (8, 12)))
    assert rendered.shape == (1, 8, 12, 3)
    np.testing.assert_allclose(rendered, 0.25, atol=1e-6)


def test_the_contact_sheet_has_a_row_a_sample_and_its_columns_in_order():
    shades = {"flow": 0.2, "source": 0.4, "extra": 0.6, "output": 2.0, "driving": np.nan}
    panels = {name: np.full((3, 4, 5, 3), shade, np.float32) for name, shade in shades.items()}
    panels["source"][1] = 0.8
    sheet = contact_sheet(panels, rows=2, gap=2)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * 4 + 2, 5 * 5 + 4 * 2, 3)
    middles = [sheet[2, 2 + 7 * i, 0] for i in range(5)]
    assert middles == [102, 0, 255, 51, 153]  # source, driving (not finite), output (clipped), flow, extra
    assert sheet[8, 2, 0] == 204
    assert (sheet[:, 5:7] == 255).all()
    with pytest.raises(ValueError, match="at least one panel"):
        contact_sheet({})
