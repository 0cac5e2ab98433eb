"""Names, kinds and scales of adapter files: any key, any shape and any record is read or refused, never a traceback."""

import json

import pytest
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

from visual_planner.adapters import kinds, names, scale
from visual_planner.errors import PlannerError

PARTS = (
    "lora_up.weight", "lora_down.weight", "lora_mid.weight", "lora_up.bias", "alpha", "dora_scale", "magnitude", "diff",
    "diff_b", "set_weight", "reshape_weight", "w_norm", "b_norm", "oft_blocks", "rescale", "lokr_w1", "lokr_w2",
    "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b",
    "hada_t1", "hada_t2", "a1.weight", "a2.weight", "b1.weight", "b2.weight",
)  # fmt: skip
SHAPES = st.lists(st.integers(0, 8), max_size=5).map(tuple)


@runs(max_examples=600)
@given(
    parts=st.dictionaries(st.sampled_from(PARTS), SHAPES, min_size=1, max_size=7), weight=st.none() | SHAPES.filter(len)
)
def test_parts_of_any_kind_and_shape_are_checked_or_refused(parts, weight):
    try:
        kind = kinds.check(parts, weight)
    except kinds.Misfit as misfit:
        assert "\n" not in str(misfit) and len(str(misfit)) < 300
    else:
        assert kind in ("lora", "loha", "lokr", "glora", "oft", "diff", "norm", "set", "bias")


@runs(max_examples=300)
@given(
    key=st.text(max_size=60)
    | st.lists(st.sampled_from([*PARTS, "lora_A", "_orig_mod", ".", "weight", "x"])).map(".".join)
)
def test_any_key_is_parsed_or_not(key):
    part = names.parse(key)
    if part is not None:
        assert part.part in PARTS and part.module and key.startswith(part.module)
        assert names.candidates(part.module)[0] == part.module


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("transformer.x.lora_A.weight", ("transformer.x", "lora_down.weight", "", True)),
        ("x.lora_B.default_0.weight", ("x", "lora_up.weight", "default_0", True)),
        ("x.lora_A", ("x", "lora_down.weight", "", True)),
        ("x.lora_B.bias", ("x", "lora_up.bias", "", True)),
        ("x.lora_B.robot.bias", ("x", "lora_up.bias", "robot", True)),
        ("x.lora.up.weight", ("x", "lora_up.weight", "", False)),
        ("x_lora.down.weight", ("x", "lora_down.weight", "", False)),
        ("x.lora_linear_layer.down.weight", ("x", "lora_down.weight", "", False)),
        ("lora_unet_x.lora_up.weight", ("lora_unet_x", "lora_up.weight", "", False)),
        ("x.lora_magnitude_vector", ("x", "magnitude", "", True)),
        ("x.lora_magnitude_vector.weight", ("x", "magnitude", "", True)),
        ("x.lora_magnitude_vector.default.weight", ("x", "magnitude", "", True)),
        ("a.0.processor.qkv_lora1.up.weight", ("a.0.processor.qkv_lora1", "lora_up.weight", "", False)),
        ("x.a1.weight", ("x", "a1.weight", "", False)),
        ("x.norm.key_norm.scale", ("x.norm.key_norm.scale", "set_weight", "", False)),
    ],
)  # fmt: skip
def test_keys_of_every_trainer(key, wanted):
    assert tuple(names.parse(key)) == wanted


@pytest.mark.parametrize("key", ["x.weight", "x.lora_A.bias", "x.ia3_l.weight", "lora_A.weight", "", "x.lora_C.weight"])
def test_keys_that_are_no_adapters(key):
    assert names.parse(key) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["r", "lora_alpha", "alpha_pattern", "use_rslora", "transformer.lora_alpha"])


@runs(max_examples=400)
@given(record=JSON | st.dictionaries(FIELDS, JSON, max_size=4), header=st.text(max_size=8), kohya=st.booleans())
def test_any_record_of_alpha_is_read_or_refused(record, header, kohya):
    metadata = {scale.DIFFUSERS_KEY: json.dumps(record), "lora_alpha": header, "ss_network_alpha": header}
    try:
        said = scale.settings_of_header(metadata, "LoRA x")
        alpha = scale.alpha_of(said, metadata, kohya, "transformer_blocks.0.attn.to_q", 4, "LoRA x")
    except PlannerError as error:
        assert "\n" not in str(error)
    else:
        assert alpha is None or abs(alpha) < float("inf")


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("to_q", True),
        ("attn.to_q", True),
        ("blocks.0.attn.to_q", True),
        ("o_q", False),
        ("attn.to_k", False),
        (r"blocks\.\d+\.attn\.to_q", True),
        ("^blocks.0.attn.to_q$", True),
        (r".*\.(to_q|to_k)", True),
        ("to_(k|v)", False),
    ],
)
def test_patterns_mean_what_they_mean_to_peft(pattern, fits):
    found = scale.alpha_of(
        {"alpha_pattern": {pattern: 3}, "lora_alpha": 8}, {}, False, "blocks.0.attn.to_q", 4, "LoRA x"
    )
    assert found == (3 if fits else 8)
