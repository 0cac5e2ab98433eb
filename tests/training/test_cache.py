"""The cache: the same from any number of processes and stops, checked, streamed, and named when it is stale."""

import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from runtime.parts import Part
from support.ranks import launch
from support.s3_server import s3_server
from support.small_world import config_for
from training.__main__ import main
from training.cache import write as cache_module
from training.cache.check import cache_bytes
from training.cache.read import Cache
from training.cache.write import cache
from training.data.pairs_folder import read_pairs
from training.data.sources.pictures import read_picture
from training.errors import TrainingError, WritingError
from training.model.text import TextEncoders
from training.sections.config import load_config
from training.sections.sharding import Asked
from visual_planner.grid.cells import condition_grid


def changed(world, out, **settings):
    config = config_for(world)
    return config.model_copy(update={"cache": config.cache.model_copy(update={"out": out, **settings})})


@pytest.mark.parametrize(("dtype", "advice"), [("bfloat16", "use cache.dtype float32"), ("float32", "may be broken")])
@pytest.mark.parametrize("factor", [1e6, float("nan")])
def test_latents_that_are_not_finite_are_named_by_picture(world, tmp_path, monkeypatch, dtype, advice, factor):
    """An encoder that leaves float16's range, or is broken: found here, not as a loss of NaN in training."""
    load = cache_module.load_vae

    def overflowing(*args):
        vae = load(*args)
        with torch.no_grad():
            vae.encoder.conv_out.weight.mul_(factor)
        return vae

    monkeypatch.setattr(cache_module, "load_vae", overflowing)
    line = rf"finite values that float16 can hold, got NaN or infinity for '.+\.png' \(.*\): .*{advice}"
    with pytest.raises(TrainingError, match=line) as caught:
        cache(changed(world, tmp_path / "cache", dtype=dtype))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache" / "manifest.json").exists()


def test_text_embeddings_that_are_not_finite_are_named_by_prompt(world, tmp_path, monkeypatch):
    encode = TextEncoders.__call__

    def overflowing(self, prompts):
        states, pooled = encode(self, prompts)
        states[-1, 0, 0] = float("inf")
        return states, pooled

    monkeypatch.setattr(TextEncoders, "__call__", overflowing)
    with pytest.raises(TrainingError, match="finite values that .* can hold, got NaN or infinity for '") as caught:
        cache(changed(world, tmp_path / "cache"))
    assert "\n" not in str(caught.value)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_two_processes_make_the_very_cache_of_one(world, tmp_path):
    cache(changed(world, tmp_path / "alone", text_shard_size=4))
    launch("training.cache.write:cache", changed(world, tmp_path / "cache", text_shard_size=4), 2)
    assert len(list((tmp_path / "alone").glob("text-*.safetensors"))) == 4
    assert contents(tmp_path / "cache") == contents(tmp_path / "alone")


def test_a_stopped_run_makes_only_what_is_missing(world, tmp_path, monkeypatch):
    config = changed(world, tmp_path / "cache", text_shard_size=4)
    cache(changed(world, tmp_path / "alone", text_shard_size=4))
    write, made = cache_module.Folder.write_tensors, []

    def limited(self, file, tensors):
        made.append(file)
        if len(made) == 5:
            raise TrainingError("the disk is full")
        return write(self, file, tensors)

    monkeypatch.setattr(cache_module.Folder, "write_tensors", limited)
    with pytest.raises(TrainingError, match="the disk is full"):
        cache(config)
    assert not (tmp_path / "cache" / "manifest.json").exists()
    with pytest.raises(TrainingError, match="cache manifest .* does not exist"):
        Cache(tmp_path / "cache")
    cache(config)
    assert len(made) == len(set(made)) + 1  # the one that failed, and no other, was made twice
    assert contents(tmp_path / "cache") == contents(tmp_path / "alone")


def test_shards_of_another_encoder_or_setting_are_recomputed_and_named(world, tmp_path, capsys):
    shutil.copytree(world / "cache", tmp_path / "cache")
    with pytest.raises(TrainingError, match=r"finished cache \(made with settings encode 'cells' instead of 'grid'\):"):
        cache(changed(world, tmp_path / "cache", encode="grid"))
    shutil.copytree(world / "base", tmp_path / "base")
    file = tmp_path / "base" / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(
        TrainingError, match=r"finished cache \(made with another vae/diffusion_pytorch_model\.safetensors\):"
    ):
        cache(changed(world, tmp_path / "cache", base=tmp_path / "base"))
    # an unfinished one: shards with notes, and no manifest
    manifest = json.loads((tmp_path / "cache" / "manifest.json").read_text())
    (tmp_path / "cache" / "manifest.json").unlink()
    for name, (size, digest) in manifest["files"].items():
        note = {"stamp": "other", "bytes": size, "sha256": digest}
        (tmp_path / "cache" / f"{name}.json").write_text(json.dumps(note))
    cache(changed(world, tmp_path / "cache"))
    assert capsys.readouterr().out.count("recomputed") == len(manifest["files"])
    assert Cache(tmp_path / "cache").verify() == []


def test_a_damaged_shard_is_found(world, tmp_path, capsys):
    shutil.copytree(world / "cache", tmp_path / "cache")
    assert main(["check", "--cache", str(tmp_path / "cache")]) == 0
    file = tmp_path / "cache" / "targets-00001.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert main(["check", "--cache", str(tmp_path / "cache")]) == 1
    assert "targets-00001.safetensors does not match the checksum" in capsys.readouterr().out
    file.write_bytes(data[:-9])
    with pytest.raises(
        TrainingError, match=r"targets-00001\.safetensors cannot be read: it has \d+ bytes, its manifest"
    ):
        Cache(tmp_path / "cache")


def test_shards_of_a_cache_meet_in_an_object_store(world, tmp_path, monkeypatch):
    """A server that speaks S3, and Arrow's client: two shards, one of them made again, and training's reader."""
    with s3_server() as server:
        for name, value in (
            ("ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}"),
            ("EC2_METADATA_DISABLED", "true"),
        ):
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        config = changed(world, "s3://bucket/robots/cache")
        cache(config, Asked(part=Part(0, 2)))
        with pytest.raises(TrainingError, match="1 of 2 shards must still be made: 1/2"):
            cache(config, Asked(merge=2))
        cache(config, Asked(part=Part(1, 2)))
        key = "bucket/robots/cache/targets-00000.safetensors"
        server.objects[key] = server.objects[key][:-1] + b"x"
        with pytest.raises(TrainingError, match=r"damaged shards: 0/2 \(targets-00000\.safetensors does not match"):
            cache(config, Asked(merge=2))
        cache(config, Asked(part=Part(0, 2)))
        cache(config, Asked(merge=2))
        held = {name.rpartition("/")[2]: data for name, data in server.objects.items() if not name.endswith("/")}
        assert held == contents(world / "cache")
        server.requests.clear()
        there, here = Cache("s3://bucket/robots/cache", keep=1), Cache(world / "cache")
        assert not any("safetensors" in path for _, path in server.requests), "a shard comes when it is needed"
        for pair in here.pairs:
            assert torch.equal(here.latents("targets", pair["target"]), there.latents("targets", pair["target"]))


def test_a_cache_is_written_to_a_url_and_streams_from_it(world):
    url = "memory://bucket/cache"
    cache(changed(world, url))
    here, there = Cache(world / "cache"), Cache(url, keep=1)
    assert here.pairs == there.pairs and here.spec == there.spec
    for pair in here.pairs:
        assert torch.equal(here.latents("targets", pair["target"]), there.latents("targets", pair["target"]))
        assert torch.equal(
            here.latents("conditions", pair["condition"]), there.latents("conditions", pair["condition"])
        )
        assert torch.equal(here.text(pair["text"])[0], there.text(pair["text"])[0])
        assert len(list(there._store._local.iterdir())) == 1
    store = fsspec.filesystem("memory")
    name = "/bucket/cache/targets-00000.safetensors"
    store.pipe_file(name, store.cat_file(name)[:-1] + b"x")
    with pytest.raises(
        TrainingError, match=r"targets-00000\.safetensors cannot be read: .* does not match the checksum"
    ):
        Cache(url).latents("targets", 0)


def test_a_manifest_cannot_name_a_file_elsewhere(world, tmp_path):
    shutil.copytree(world / "cache", tmp_path / "cache")
    manifest = json.loads((tmp_path / "cache" / "manifest.json").read_text())
    manifest["shards"]["targets"] = ["../targets-00000.safetensors"]
    (tmp_path / "cache" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainingError, match=r"must lie inside the cache"):
        Cache(tmp_path / "cache")


def test_caches_of_the_first_version_are_read(world, tmp_path):
    shutil.copytree(world / "cache", tmp_path / "cache")
    manifest = json.loads((tmp_path / "cache" / "manifest.json").read_text())
    (tmp_path / "cache" / manifest["shards"].pop("text")[0]).rename(tmp_path / "cache" / "text.safetensors")
    for key in ("files", "settings", "text_shard_size"):
        del manifest[key]
    (tmp_path / "cache" / "manifest.json").write_text(json.dumps({**manifest, "version": 1}))
    old, new = Cache(tmp_path / "cache"), Cache(world / "cache")
    for pair in new.pairs:
        assert torch.equal(old.text(pair["text"])[0], new.text(pair["text"])[0])


def test_the_room_is_known_before_a_model_is_loaded(world, tmp_path, monkeypatch):
    config = config_for(world)
    spec, pairs = read_pairs(world / "pairs")
    held = sum(file.stat().st_size for file in (world / "cache").glob("*.safetensors"))
    assert cache_bytes(config.cache, spec, pairs) == pytest.approx(held, rel=0.05)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setattr(TextEncoders, "load", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(WritingError, match=r"cache cannot be written: .* has 1\.0 kB free, it needs \d+\.\d kB"):
        cache(changed(world, tmp_path / "cache"))


def test_a_subset_is_cached(world, tmp_path):
    cache(changed(world, tmp_path / "cache", episodes=2))
    opened = Cache(tmp_path / "cache")
    assert {pair["rank"] for pair in opened.pairs if pair["split"] == "train"} == {0, 1}
    assert len([pair for pair in opened.pairs if pair["split"] == "validation"]) == 6
    with pytest.raises(TrainingError, match="the 4 training episodes of .*, got 5"):
        cache(changed(world, tmp_path / "more", episodes=5))


def test_a_configuration_keeps_a_url(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("cache: {data: a, base: b, out: 's3://bucket/cache'}\n")
    assert load_config(file).cache.out == "s3://bucket/cache"
    assert load_config(file, ["cache.out=some/folder"]).cache.out == Path("some/folder")


def test_conditions_are_cells_and_whole_grids_of_earlier_versions_give_the_same_cache(world, tmp_path):
    pairs = tmp_path / "pairs"
    shutil.copytree(world / "pairs", pairs)
    spec, lines = read_pairs(pairs)
    for name in {line["source"] for line in lines}:
        cell = read_picture(pairs / name, name)
        assert cell.shape == (spec.cell_height, spec.cell_width, 3)
        grid = condition_grid(torch.from_numpy(cell)[None], spec.layout)[0].numpy()
        Image.fromarray(grid).save(pairs / name)
    cache(changed(world, tmp_path / "new"))
    cache(changed(world, tmp_path / "old", data=pairs))
    held = [load_file(tmp_path / name / "conditions-00000.safetensors")["latents"] for name in ("new", "old")]
    assert torch.equal(*held)
    Image.fromarray(np.zeros((7, 9, 3), np.uint8)).save(pairs / lines[0]["source"])
    with pytest.raises(TrainingError, match=r"must be \(32, 32\) \(height, width\), got \(7, 9\)"):
        cache(changed(world, tmp_path / "wrong", data=pairs))


def test_a_cache_of_the_first_spec_version_is_read(world, tmp_path):
    shutil.copytree(world / "cache", tmp_path / "cache")
    file = tmp_path / "cache" / "manifest.json"
    manifest = json.loads(file.read_text())
    first = json.loads((Path(__file__).parents[1] / "fixtures" / "records" / "planner_spec_v1.json").read_text())
    spec = {key: value for key, value in manifest["spec"].items() if key in first}  # what that version had
    file.write_text(json.dumps({**manifest, "spec": {**spec, "version": 1}}))
    assert Cache(tmp_path / "cache").spec == Cache(world / "cache").spec
    with pytest.raises(TrainingError, match=r"holds a finished cache \(of these encoders\):"):
        cache(changed(world, tmp_path / "cache"))
