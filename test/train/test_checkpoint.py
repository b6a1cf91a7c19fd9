import json

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from e2etts.errors import UserError
from e2etts.files import replaced_folder
from e2etts.train import checkpoint
from e2etts.train.checkpoint import (
    load_checkpoint,
    require_same,
    restore,
    save_checkpoint,
)

META = {"step": 3, "config": {"dim": 4, "trunk": {"layers": 2}}, "metrics": {"loss": 1.5}}


def make_module(width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2))


def test_round_trip_and_replacement(tmp_path):
    folder, module = tmp_path / "best", make_module()
    for step in (1, 3):
        save_checkpoint(folder, module.state_dict(), {**META, "step": step})
    tensors, meta = load_checkpoint(folder)
    assert meta["step"] == 3 and meta["metrics"] == {"loss": 1.5} and meta["format"] == 2
    other = make_module()
    nn.init.zeros_(other[0].weight)
    restore(other, tensors, "here")
    assert torch.equal(other[0].weight, module[0].weight)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best"]
    assert sorted(p.name for p in folder.iterdir()) == ["meta.json", "model.safetensors"]


def test_tied_weights_can_be_saved(tmp_path):
    weight = torch.randn(3, 3)
    save_checkpoint(tmp_path / "c", {"a": weight, "b": weight, "c": weight.T}, META)
    tensors, _ = load_checkpoint(tmp_path / "c")
    assert torch.equal(tensors["a"], tensors["b"]) and torch.equal(tensors["c"], weight.T)


def test_other_configuration_names_the_keys():
    with pytest.raises(UserError, match=r"trunk\.layers: 2 != 3"):
        require_same(META["config"], {"dim": 4, "trunk": {"layers": 3}}, "c")


@pytest.mark.parametrize("change,message", [
    (lambda t: t.pop("0.weight"), r"0\.weight is missing"),
    (lambda t: t.update(extra=torch.zeros(1)), "extra is unknown"),
    (lambda t: t.update({"1.bias": torch.zeros(5)}), r"1\.bias has shape \(5,\), expected \(2,\)"),
])
def test_tensors_that_do_not_fit_are_refused(change, message):
    module = make_module()
    before = module[0].weight.clone()
    tensors = {k: v + 1 for k, v in module.state_dict().items()}
    change(tensors)
    with pytest.raises(UserError, match=rf"there: .*{message}"):
        restore(module, tensors, "there")
    assert torch.equal(module[0].weight, before)


def test_tensors_may_be_absent_by_name_alone():
    module = make_module()
    bias = module[0].bias.clone()
    tensors = {k: v + 1 for k, v in module.state_dict().items() if k != "0.bias"}
    with pytest.raises(UserError, match=r"0\.bias is missing"):
        restore(module, tensors, "there")
    restore(module, tensors, "there", absent={"0.bias"})
    assert torch.equal(module[0].bias, bias)
    assert torch.equal(module[0].weight, tensors["0.weight"])


def test_only_the_first_few_misfits_are_listed():
    with pytest.raises(UserError, match="and 7 more"):
        restore(nn.Linear(2, 2), {**nn.Linear(2, 2).state_dict(),
                                  **{f"x{i}": torch.zeros(1) for i in range(12)}}, "there")


def test_missing_broken_and_foreign_checkpoints(tmp_path):
    with pytest.raises(UserError, match=r"model\.safetensors: no such checkpoint file"):
        load_checkpoint(tmp_path / "absent")
    folder = tmp_path / "c"
    save_checkpoint(folder, make_module().state_dict(), META)
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match="broken checkpoint"):
        load_checkpoint(folder)
    save_checkpoint(folder, {}, META)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        load_checkpoint(folder)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"),
                                   SafetensorError("No space left on device")])
def test_full_disk_leaves_the_former_checkpoint(tmp_path, monkeypatch, error):
    folder = tmp_path / "c"
    save_checkpoint(folder, {"a": torch.ones(2)}, META)

    def full(*_):
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match="cannot write: No space left.*free space"):
        save_checkpoint(folder, {"a": torch.zeros(2)}, META)
    assert load_checkpoint(folder)[0]["a"].tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_replacement_cut_off_between_renames_is_undone(tmp_path):
    folder = tmp_path / "c"
    save_checkpoint(folder, {"a": torch.ones(2)}, META)
    folder.rename(tmp_path / "c.old")
    assert load_checkpoint(folder)[0]["a"].tolist() == [1, 1]
    folder.rename(tmp_path / "c.old")
    with replaced_folder(folder) as part:
        (part / "new").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["c"] and (folder / "new").exists()
