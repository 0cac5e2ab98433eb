"""What the nodes say is there after every run, also where ComfyUI takes all of their results from its cache."""

import pytest

from launcher.client import ComfyClient

pytestmark = pytest.mark.comfyui


def test_cached_nodes_say_the_same_again(comfy_client: ComfyClient):
    lora = {"lora_name": "tiny_planner (built in)", "strength": 0.37, "base_lora_name": "none", "base_strength": 1.0}
    prompt = {
        "1": {"class_type": "VisualPlannerTinyLoader", "inputs": {}},
        "2": {
            "class_type": "VisualPlannerLoraLoader",
            "inputs": {"model": ["1", 0], "preset": "from the file", "blocks": "single: 0.9", **lora},
        },
        "3": {
            "class_type": "VisualPlannerPrompt",
            "inputs": {"mode": "text", "instruction": "push the red cube", "spec": ["2", 1]},
        },
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
    }
    first, second = comfy_client.run(prompt), comfy_client.run(prompt)
    assert "2" in first.node_seconds and "2" not in second.node_seconds, "the second is from the cache"
    for node in ("2", "3", "4"):
        assert first.outputs[node]["text"] == second.outputs[node]["text"] != [""]
    assert "LoRA tiny_planner (built in): strength by block single: 0.9" in second.outputs["2"]["text"][0]
