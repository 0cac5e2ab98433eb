"""Every form of a trajectory in the list that the node and the editor share; tests/web reads the same list."""

import json
from pathlib import Path

import pytest

from visual_planner.errors import TrajectoryError
from visual_planner.trajectory.parse import parse_trajectory

FORMS = json.loads((Path(__file__).resolve().parents[1] / "fixtures" / "trajectory_forms.json").read_text("utf-8"))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form["name"])
def test_a_form_is_read_or_refused(form):
    if "document" in form:
        assert parse_trajectory(form["text"], 640, 480).to_dict() == form["document"]
    else:
        with pytest.raises(TrajectoryError) as caught:
            parse_trajectory(form["text"], 640, 480)
        assert "\n" not in str(caught.value)


def test_the_list_holds_all_kinds():
    read, drawn = (sum(kind in form for form in FORMS) for kind in ("document", "drawing"))
    assert read > 20 and drawn > 3 and len(FORMS) - read - drawn > 30
    assert len({form["name"] for form in FORMS}) == len(FORMS)
