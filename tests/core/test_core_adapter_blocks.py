"""Strengths by block: every form is read as it is meant, nothing else is."""

import pytest

from visual_planner.adapters.blocks import BlocksError, Strengths, parse_blocks


def strengths(text, double=3, single=4):
    return parse_blocks(text, double, single)


@pytest.mark.parametrize("text", ["", "  \n ", "all: 1", "1,1,1,1,1,1,1,1", "%default=1", "double: 0; double: 1"])
def test_all_are_one(text):
    made = strengths(text)
    assert made == Strengths((1.0,) * 3, (1.0,) * 4) and made.are_one and made.text() == ""


@pytest.mark.parametrize(
    ("text", "double", "single", "other"),
    [
        ("double 0-1: 0.5; single: 1.2", (0.5, 0.5, 1), (1.2,) * 4, 1),
        ("DOUBLE 2 = -1\nsingle 0, 2-3: .25;", (1, 1, -1), (0.25, 1, 0.25, 0.25), 1),
        ("single 0 2: 3e-1", (1, 1, 1), (0.3, 1, 0.3, 1), 1),
        ("all: 0; double 1: 1; other: 2", (0, 1, 0), (0,) * 4, 2),
        ("double 1: 1; all: 0", (0, 0, 0), (0,) * 4, 0),
        ("0.1, 1,2,3, 4,5,6,7", (1, 2, 3), (4, 5, 6, 7), 0.1),
        ("FLUX-MINE:0,1,2,3,4,5,6,7", (1, 2, 3), (4, 5, 6, 7), 0),
        ("%double1-2=0.5,base=0,default=3,single4=7", (0.5, 0.5, 3), (3, 3, 3, 7), 0),
    ],
)
def test_forms(text, double, single, other):
    made = strengths(text)
    assert made == Strengths(double, single, other)
    assert strengths(made.text()) == made, "its own text is read again"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("double 0-3: 1", r"must name double blocks of this model \(0 to 2\), got 0-3"),
        ("single 4: 1", r"must name single blocks of this model \(0 to 3\), got 4"),
        ("double 2-1: 1", "must name double blocks"),
        ("double 1,,2: 1", "must name double blocks"),
        ("double 1-: 1", "must name double blocks"),
        ("%double0=1", r"\(1 to 3\), got 0"),
        ("double 0-1", "must be rules of all, other, double or single"),
        ("triple 0: 1", "must be rules of all, other, double or single"),
        ("double x: 1", "must be rules of all, other, double or single"),
        ("all 3: 1", "must have all without numbers of blocks, got '3'"),
        ("double: much", "strengths from -10 to 10, got 'much'"),
        ("double: 11", "strengths from -10 to 10, got '11'"),
        ("double: nan", "strengths from -10 to 10, got 'nan'"),
        ("double:", "strengths from -10 to 10, got ''"),
        ("double: 1 single: 2", "strengths from -10 to 10"),
        ("1,1,1", r"must be 8 numbers for this model \(one for .*, 3 of double blocks, 4 of single ones\) .*, got 3"),
        ("1,1,1,1,R,1,1,1", "strengths from -10 to 10, got 'R'"),
        ("%triple=1", "behind its %"),
        ("double: 1;" * 2000, "at most 10000 characters"),
        (None, "must be text"),
    ],
)
def test_anything_else_is_one_line(text, message):
    with pytest.raises(BlocksError, match=message) as caught:
        strengths(text)
    assert str(caught.value).startswith("blocks must ") and "\n" not in str(caught.value)


def test_a_layer_has_its_blocks_strength():
    made = strengths("other: 5; double 1: 2; single 3: 4")
    for layer, value in {
        "diffusion_model.double_blocks.1.img_attn.qkv.weight": 2,
        "double_blocks.2.txt_mlp.0": 1,
        "diffusion_model.single_blocks.3.linear2.bias": 4,
        "diffusion_model.double_stream_modulation_img.lin.weight": 5,
        "diffusion_model.img_in.weight": 5,
    }.items():
        assert made.of(layer) == value
    assert strengths("double: 1", double=0).double == ()
