"""What the CT training draws: insertion keeps its word about place and size, and LUNA16's layout is read as it is."""

import csv
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from triage.detectors._grid import Grid, canonical, resample
from triage.phantom import NoduleSpec, make_thorax, nodule_truth, render_volume

TRAINING = str(Path(__file__).resolve().parents[2] / "models" / "lung_nodule")
sys.path.insert(0, TRAINING)
import cases  # noqa: E402
import finder  # noqa: E402
import insertion  # noqa: E402
import judge  # noqa: E402
import looks  # noqa: E402
import luna16  # noqa: E402
import more_cases  # noqa: E402
import pretrain  # noqa: E402
import producers  # noqa: E402
import sampler  # noqa: E402
import views  # noqa: E402

# The other detector's training has modules of the same names.
sys.path.remove(TRAINING)
for name in (
    "cases",
    "data",
    "finder",
    "insertion",
    "judge",
    "looks",
    "luna16",
    "pretrain",
    "producers",
    "sampler",
    "views",
):
    del sys.modules[name]

SPACING = (1.5, 0.7, 0.7)


def quiet_lung(seed=0):
    rng = np.random.default_rng(seed)
    block = np.full((40, 86, 86), -860, np.float32) + rng.normal(0, 15, (40, 86, 86)).astype(np.float32)
    block[:, 40:44, :] = 30  # a vessel
    return block, np.ones_like(block)


def a_ball(diameter_mm):
    axes = (np.arange(41) - 20) * 0.6
    away = np.sqrt(axes[:, None, None] ** 2 + axes[None, :, None] ** 2 + axes[None, None, :] ** 2)
    return insertion.signed_distance(away < diameter_mm / 2, 0.6)


def test_an_inserted_nodule_lies_where_the_label_says_and_is_as_large():
    block, lung = quiet_lung()
    before = block.copy()
    rng = np.random.default_rng(1)
    look = insertion.Look("solid", 20.0, 0.4, (0.6, 0.6))
    body = insertion.outline(a_ball(12.0), 0.6, 1.0, rng)
    lesion = insertion.paint(block, lung, SPACING, (20.3, 20.2, 50.4), body, look, rng, reach_mm=18.0)
    assert lesion is not None
    dense = block > -430
    dense[:, 38:46] = False
    center = np.argwhere(dense).mean(0)
    assert np.abs((center - lesion.centre) * np.array(SPACING)).max() < 0.8
    volume = dense.sum() * np.prod(SPACING)
    assert (6 * volume / np.pi) ** (1 / 3) == pytest.approx(lesion.diameter_mm, abs=1.0)
    far = np.abs(np.arange(86) - 50.4) * 0.7 > 19
    assert (block[:, :, far] == before[:, :, far]).all()


def test_a_vessel_is_kept_under_a_nodule():
    block, lung = quiet_lung()
    rng = np.random.default_rng(2)
    look = insertion.Look("ground_glass", -600.0, 1.0, (0.6, 0.6))
    body = insertion.outline(a_ball(14.0), 0.6, 1.0, rng)
    insertion.paint(block, lung, SPACING, (20.0, 34.0, 43.0), body, look, rng, reach_mm=18.0)
    assert block[20, 41:43, 38:48].mean() > -50


def test_nothing_is_drawn_where_there_is_no_lung_or_where_it_could_not_be_seen():
    rng = np.random.default_rng(3)
    look = insertion.Look("solid", 20.0, 0.4, (0.6, 0.6))
    body = insertion.outline(a_ball(8.0), 0.6, 1.0, rng)
    block, lung = quiet_lung()
    before = block.copy()
    assert insertion.paint(block, lung * 0, SPACING, (20, 20, 50), body, look, rng, reach_mm=10.0) is None
    block[:] = before
    dense = np.full_like(block, 30.0)
    assert insertion.paint(dense, lung, SPACING, (20, 20, 50), body, look, rng, reach_mm=10.0) is None
    assert (dense == 30.0).all()
    assert (block == before).all()


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A phantom, read from subset0 of a folder in LUNA16's layout."""
    folder = tmp_path_factory.mktemp("luna16")
    thorax = make_thorax(41, nodules=[NoduleSpec(14.0)])
    volume = render_volume(thorax, slices=80, size_px=192)
    (folder / "subset0").mkdir()
    grid = canonical(volume.hu, volume.affine)
    cases.write_mhd(folder / "subset0" / "1.2.41.mhd", Grid(grid.hu, grid.affine))
    with (folder / "annotations.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"])
        writer.writerows(["1.2.41", *center, d] for center, d, _, _ in nodule_truth(thorax))
    return next(luna16.luna16_scans(folder, range(1), seed=0))


def test_scans_in_the_luna16_layout_become_training_blocks_with_the_nodule_in_place(scan):
    assert scan.name == "1.2.41"
    assert len(scan.known) == 1
    drawn_from = sampler.Sampler([scan], None, [], seed=5)
    seen = 0
    for _ in range(12):
        sample = drawn_from.draw(40, 1.25)
        for lesion in sample.lesions:
            z, y, x = (round(c) for c in lesion.centre)
            if all(3 <= c <= 36 for c in (z, y, x)):
                assert sample.hu[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2].mean() > -400
                seen += 1
    assert seen


def test_marks_and_targets_follow_their_nodule_into_every_pose():
    place, radius = (27.3, 24.6, 30.2), 4.0
    axes = [np.arange(producers.BLOCK) - c for c in place]
    away = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    block = producers.to_bytes(np.where(away < radius, 50, -850)).astype(np.uint8)
    sample = sampler.Sample(block, (insertion.Lesion(place, 10.0, "solid"),), ())
    count = 24
    by = torch.Generator().manual_seed(3)
    blocks = torch.from_numpy(block).expand(count, -1, -1, -1)
    marks = torch.from_numpy(producers.marks_of(sample)).expand(count, -1, -1)
    values, heat, regression, weight = finder.view(by, blocks, marks)
    for k in range(count):
        seen = np.argwhere(values[k, 0].numpy() > 0.5).mean(0)
        cells = torch.nonzero(weight[k])
        named = (cells + regression[k, :3, cells[:, 0], cells[:, 1], cells[:, 2]].T).numpy()
        assert np.abs(named - named.mean(0)).max() < 1e-3
        assert np.abs(named[0] * 2 + 0.5 - seen).max() < 0.6
        peak = np.argwhere(heat[k].numpy() == 1)[0]
        assert np.abs(named[0] - peak).max() <= 0.51
        volume = float((values[k, 0] > 0.43).sum())
        told = float(regression[k, 3, *cells[0]].exp()) / 10.0 * 2 * radius
        assert (6 * volume / np.pi) ** (1 / 3) == pytest.approx(told, rel=0.12)


def test_nothing_is_said_where_readers_disagreed_but_a_nodule_beside_it_counts():
    marks = torch.zeros(1, 3, 5)
    marks[0, 0] = torch.tensor([24.5, 24.5, 24.5, 9.0, -1])
    marks[0, 1] = torch.tensor([24.5, 24.5, 12.5, 6.0, 1])
    heat, _, weight = views.targets(marks, 48)
    assert heat[0, 12, 12, 12] == -1
    assert heat[0, 12, 12, 6] == 1
    assert weight[0, 12, 12, 12] == 0
    assert heat.max() == 1


def test_half_of_the_poses_leave_every_voxel_as_it_was():
    by = torch.Generator().manual_seed(1)
    stored = torch.randint(0, 100, (32, 1, 40, 40, 40), generator=by).float()
    matrix, shift, scale = views.poses(by, 32, 3)
    cut = views.cut(stored, matrix, shift, 32)
    whole = ((cut - cut.round()).abs() < 0.01).float().mean((1, 2, 3, 4))
    exact = torch.nonzero(whole > 0.99)[:, 0]
    assert 8 <= len(exact) <= 24
    assert (scale[exact] == 1).all()


@pytest.fixture
def no_compiler(monkeypatch):
    """torch's optimizers import its compiler to tell it to stay away: 7 s of processor for nothing."""
    stub = SimpleNamespace(disable=lambda step, *_, **__: step, graph_break=lambda: None)
    monkeypatch.setitem(sys.modules, "torch._dynamo", stub)
    monkeypatch.setitem(vars(torch), "_dynamo", stub)


@pytest.mark.usefixtures("no_compiler")
def test_what_is_kept_has_left_the_random_beginning_behind_after_a_hundred_steps(tmp_path):
    module = torch.nn.Conv3d(1, 1, 1)
    torch.nn.init.constant_(module.weight, 100.0)
    net = finder.Averaged(module, torch.zeros(1, 1, 1, 1, 1), tmp_path / "none", (0.1, 0.1), 0.0)
    for _ in range(100):
        net.learn(module.bias.square().sum(), 0.0, warm=1)
        torch.nn.init.constant_(module.weight, 1.0)
    net.save()
    kept = load_file(tmp_path / "none")["weight"].item()
    assert kept == pytest.approx(1.0, abs=1e-3)


@pytest.fixture
def drawing(scan, monkeypatch, no_compiler):
    """One producer over the miniature in LUNA16's layout, and networks small enough for a test."""
    monkeypatch.setattr(looks, "FLOOR", -9.0)  # a finder that has learnt nothing yet names places, too
    monkeypatch.setattr(finder, "WIDTHS", (4, 8, 12))
    monkeypatch.setattr(judge, "WIDTHS", (4, 8, 12))
    crew = producers.Producers(sampler.Sampler([scan], None, [], 5), luna16.Hosts([scan], None), None, 1, 7)
    yield crew
    crew.close()


def test_finder_and_judges_learn_from_what_a_producer_draws_and_go_on_from_their_weights(
    drawing, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(finder, "FIRST", 8)
    monkeypatch.setattr(judge, "FIRST", 1)
    monkeypatch.setitem(finder.POOL, "cpu", 16)
    monkeypatch.setitem(judge.POOL, "cpu", (64, 64))
    saved = tmp_path / "finder.safetensors"
    for _ in range(2):
        learnt, early = finder.train_finder(
            drawing, saved, tmp_path / "none", minutes=0.02, device="cpu", seed=1, batch=2
        )
        assert re.search(r"finder step 1 .* focal [0-9.]+", capsys.readouterr().out)
    begun = finder.Averaged(
        finder.NoduleFinder(finder.WIDTHS), torch.rand(2, 1, *(finder.PATCH,) * 3), saved, (2e-3, 1e-3), 0.0
    )
    assert (begun.peak, begun.model.state_dict().keys()) == (1e-3, load_file(saved).keys())
    assert all(torch.equal(w, load_file(saved)[k]) for k, w in begun.model.state_dict().items())
    drawing.want("looks")
    while not early:
        drawing.serve(learnt)
        early = [arrays for kind, arrays in drawing.take(0.05) if kind == "looks"]
    paths = [tmp_path / "judge1.safetensors", tmp_path / "judge2.safetensors"]
    judge.train_judges(drawing, learnt, [], paths, minutes=0.01, device="cpu", seed=1, batch=6, early=early)
    assert "judge step 1 loss" in capsys.readouterr().out
    assert load_file(paths[0]).keys() == load_file(paths[1]).keys()
    assert paths[0].read_bytes() != paths[1].read_bytes()


def test_steps_on_the_same_blocks_lower_their_loss(drawing, tmp_path):
    drawn = []
    while not drawn:
        drawn = [arrays for kind, arrays in drawing.take(5) if kind == "blocks"]
    by = torch.Generator().manual_seed(1)
    values, *wanted = finder.view(by, *(torch.from_numpy(a[:2]) for a in drawn[0]))
    torch.manual_seed(1)
    net = finder.Averaged(finder.NoduleFinder(finder.WIDTHS), values, tmp_path / "none", (2e-3, 1e-3), 1e-4)
    losses = []
    for _ in range(40):
        focal, size = finder.loss_of(net(values), *wanted)
        net.learn(focal + 0.2 * size, 0.0, warm=1)
        losses.append(float(focal))
    assert losses[-1] < 0.5 * losses[0]


def test_a_block_of_lung_is_the_scan_as_it_is(scan):
    drawn_from = sampler.Sampler([scan, replace(scan, name="phantom1")], None, [], seed=5)
    drawn_from.rng = np.random.default_rng(2)
    block = drawn_from.draw_lung(32, 1.25)
    again = np.random.default_rng(2)
    assert again.integers(1) == 0  # of one real scan: phantoms are none
    step = 1.25 * again.uniform(0.9, 1.1)
    place = scan.places[again.integers(len(scan.places))]
    start = scan.grid.to_index(place[None])[0] - 16 * step / np.array(scan.grid.spacing)
    whole = resample(scan.grid, step, start + again.uniform(-0.5, 0.5, 3), (32, 32, 32))
    assert np.abs(block - whole.hu).max() < 0.5


def test_what_is_spoilt_is_hidden_in_part_shuffled_in_part_and_else_as_it_was(monkeypatch):
    monkeypatch.setattr(pretrain, "BEND", 0.0)
    values = torch.arange(48.0**3).reshape(1, 1, 48, 48, 48) / 48**3
    bad = pretrain.spoilt(torch.Generator().manual_seed(4), values.expand(6, -1, -1, -1, -1))
    same = (bad == values).float().mean((1, 2, 3, 4))
    assert 0.4 < same.min() < same.max() < 0.9
    elsewhere = torch.isin(bad, values).float().mean((1, 2, 3, 4))  # shuffled, not hidden
    assert (elsewhere > same + 0.02).all()
    assert torch.equal(pretrain._join(pretrain._split(values, 8), 48), values)


@pytest.mark.usefixtures("no_compiler")
def test_pretraining_learns_to_restore_lungs(scan, monkeypatch, tmp_path):
    monkeypatch.setattr(finder, "WIDTHS", (4, 8, 12))
    drawn_from = sampler.Sampler([scan], None, [], seed=5)
    lungs = np.stack([producers.to_bytes(drawn_from.draw_lung(producers.BLOCK, 1.25)) for _ in range(2)])
    torch.manual_seed(1)
    values, whole = pretrain.view(torch.Generator().manual_seed(1), torch.from_numpy(lungs))
    net = finder.Averaged(pretrain.restorer(), values, tmp_path / "none", (1e-2, 1e-3), 1e-4)
    for _ in range(30):
        loss = torch.nn.functional.mse_loss(net(values), whole)
        net.learn(loss, 0.0, warm=1)
    assert loss.item() < 0.3 * whole.var().item()  # the best constant leaves 1


def test_a_finder_takes_over_the_pretrained_body_but_no_head_and_learns_as_one_that_begins(
    drawing, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(pretrain, "FIRST", 8)
    monkeypatch.setitem(pretrain.POOL, "cpu", 16)
    saved = tmp_path / "pretrained.safetensors"
    for _ in range(2):
        pretrain.pretrain(drawing, saved, minutes=0.01, device="cpu", seed=1, batch=2)
        assert re.search(r"pretrain step 1 .* off by [0-9]+ HU", capsys.readouterr().out)
    restored = load_file(saved)
    new = finder.new_finder(saved)
    assert all(torch.equal(w, restored[k]) for k, w in new.state_dict().items() if k[:5] != "head.")
    assert restored["head.weight"].shape[0] == 8
    assert new.head.bias.tolist() == [-5, 0, 0, 0, 2]
    again = finder.Averaged(pretrain.restorer(), torch.rand(1, 1, 48, 48, 48), saved, (2e-3, 1e-3), 0.0)
    assert again.peak == 1e-3
    begun = finder.Averaged(new, torch.rand(1, 1, 48, 48, 48), tmp_path / "none", (2e-3, 1e-3), 0.0)
    assert begun.peak == 2e-3


def test_a_trainer_whose_producers_died_says_so(drawing):
    for process in drawing.processes:
        process.terminate()
        process.join()
    drawing.take()
    with pytest.raises(RuntimeError, match="producers have died"):
        for _ in range(30):
            drawing.take(0.2)


def test_no_outline_is_drawn_twice_into_val_cases_while_its_texture_lasts():
    outlines = [
        {"shape_id": f"{texture}{k}", "texture_class": texture, "diameter_eq_mm": str(4 + k)}
        for texture in more_cases.TEXTURES
        for k in range(6)
    ]
    used: set[str] = set()
    chosen = more_cases.drawn(np.random.default_rng(3), outlines, used)
    chosen += more_cases.drawn(np.random.default_rng(4), outlines, used)

    names = [o["shape_id"] for o in chosen]
    solid = [n for n in names if n.startswith("solid")]
    assert len(names) == 2 * more_cases.NODULES_A_CASE
    assert len(solid) > 6, "the draw has to exhaust a texture to show what happens then"
    assert len(set(solid[:6])) == 6
    assert used == set(names)
