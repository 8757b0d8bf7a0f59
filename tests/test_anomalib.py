"""The method as a model of anomalib: trained by its Engine, on a folder of its own data module."""

from __future__ import annotations

import warnings

import pytest
import torch

from urd.demo.dataset import render_dataset
from urd.errors import UsageError
from urd.networks.memory_bank import features_of_places

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    anomalib = pytest.importorskip("anomalib")
    from anomalib.data import Folder
    from anomalib.engine import Engine

    from urd.anomalib import Urd

SMALL = {"weights": "none", "image_size": (64, 64), "backbone": "resnet18.tv_in1k"}


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    return render_dataset(
        tmp_path_factory.mktemp("anomalib"), "denim", train=6, test_good=3, per_defect=1, seed=0
    )


def data_module(folder):
    return Folder(
        name="denim",
        root=folder,
        normal_dir="train/good",
        abnormal_dir="test/hole",
        normal_test_dir="test/good",
        mask_dir="ground_truth/hole",
        train_batch_size=2,
        eval_batch_size=4,
        val_split_mode="same_as_test",
        num_workers=0,
        seed=0,
    )


def engine(folder, **options):
    return Engine(
        default_root_dir=folder,
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        **options,
    )


def state_of(model):
    return {name: value.clone() for name, value in model.model.state_dict().items()}


@pytest.mark.parametrize("variant", ["urd", "rd"])
def test_engine_trains_tests_and_predicts(products, tmp_path, variant):
    model = Urd(variant=variant, **SMALL)
    before = state_of(model)
    trainer = engine(tmp_path, max_epochs=1)
    trainer.fit(model=model, datamodule=data_module(products))
    after = state_of(model)
    moved = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"pair"}  # the expert, its statistics included, stays as it was
    teacher_moved = not torch.equal(
        after["pair.teacher.body.conv1.weight"], before["pair.teacher.body.conv1.weight"]
    )
    assert teacher_moved == (variant == "urd")
    assert trainer.trainer.global_step == 3 * (2 if variant == "urd" else 1)
    results = trainer.test(model=model, datamodule=data_module(products))
    assert {"image_AUROC", "pixel_AUROC"} <= set(results[0])
    predicted = trainer.predict(model=model, datamodule=data_module(products))
    assert sum(len(batch.image_path) for batch in predicted) == 4
    assert all(torch.isfinite(batch.anomaly_map).all() for batch in predicted)


def test_a_model_that_was_not_trained_is_not_tested(products, tmp_path):
    trainer = engine(tmp_path, max_epochs=1)
    trainer.fit(model=Urd(variant="rd", **SMALL), datamodule=data_module(products))
    other = Urd(variant="rd", **SMALL)
    with pytest.raises(UsageError, match="this Urd is not trained"):
        trainer.test(model=other, datamodule=data_module(products))
    kept = sorted(tmp_path.rglob("*.ckpt"))[0]
    assert trainer.test(model=other, datamodule=data_module(products), ckpt_path=kept)


def test_same_maps_as_the_detector(products, tmp_path):
    """The trained pair, in a detector of the same header, gives the same scores."""
    from urd import Detector
    from urd.backbones.weights import fingerprint

    options = {**SMALL, "iterations": 1, "batch_size": 2, "holdout": 0.0, "seed": 5}
    detector = Detector.fit(products, tmp_path / "run", precision="float32", **options)
    model = Urd(seed=5, **SMALL).eval()
    assert fingerprint(model.model.expert) == detector.header.encoder.sha256
    model.model.pair.load_state_dict(detector.engine.model.state_dict())
    path = sorted((products / "test" / "hole").iterdir())[0]
    prediction = detector.predict(path)
    from urd.data import decode_all

    pixels, *_ = decode_all([path], (64, 64))
    found = model.model(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    assert float(found.pred_score[0]) == pytest.approx(prediction.score, rel=1e-4)


def test_settings_are_checked_and_kept(tmp_path):
    with pytest.raises(UsageError, match="foreground"):
        Urd(foreground="auto", **SMALL)
    with pytest.raises(UsageError, match="multiples of 32"):
        Urd(**{**SMALL, "image_size": (65, 65)})
    model = Urd(variant="rd", **SMALL)
    assert model.hparams["variant"] == "rd"
    assert model.config.tag == "resnet18.tv_in1k"


@pytest.mark.parametrize("variant", ["urd", "rd"])
def test_the_built_in_backbone_is_whitened_once_and_its_student_begins_slowly(
    products, tmp_path, variant
):
    model = Urd(variant=variant, image_size=(64, 64), backbone="builtin")
    trainer = engine(tmp_path, max_epochs=1)
    trainer.fit(model=model, datamodule=data_module(products))
    optimizers = trainer.trainer.optimizers
    iterations = trainer.trainer.global_step // len(optimizers)
    rate = optimizers[0].param_groups[0]["lr"]
    assert 0 < iterations < model.config.warm_up
    assert rate == pytest.approx(model.config.student_lr * iterations / model.config.warm_up)
    head = model.model.pair.teacher.heads[2].weight.detach().clone()
    eye = torch.eye(len(head))
    assert (head[:, :, 0, 0] - eye).abs().max() > 0.1
    if variant == "urd":
        assert torch.allclose(model.model.expert.heads[2].weight, head, atol=0.01)
        # What the expert keeps is of rendered images; the teacher's norms are of these.
        of_expert, of_teacher = (
            e.body.bn1.weight.detach() for e in (model.model.expert, model.model.pair.teacher)
        )
        assert (of_teacher - of_expert).abs().max() > 0.01
    with torch.no_grad():
        head = model.model.pair.teacher.heads[2].weight.mul_(2).clone()
    model.on_train_start()  # of another training, which goes on from this one
    assert torch.equal(model.model.pair.teacher.heads[2].weight, head)


def test_export_through_anomalib_is_refused(products, tmp_path):
    model = Urd(**SMALL)
    for form in ("torch", "onnx", "openvino"):
        with pytest.raises(UsageError, match="urd export") as caught:
            engine(tmp_path).export(model, form, export_root=tmp_path / "x")
        assert "\n" not in str(caught.value)
    assert not list((tmp_path / "x").rglob("*.*"))


def test_called_by_itself_the_model_resizes_as_its_engine_does(products, tmp_path):
    """Photographs larger than the network's size: anomalib's own forward does not antialias."""
    from anomalib.data import PredictDataset

    model = Urd(**{**SMALL, "image_size": (32, 32)})
    dataset = PredictDataset(path=products / "test" / "hole")
    (batch,) = engine(tmp_path).predict(model=model, dataset=dataset)
    with torch.no_grad():
        image = dataset[0].image[None]
        assert image.shape[-1] > 100
        found = model.eval()(image)
    torch.testing.assert_close(found.anomaly_map[0].squeeze(), batch.anomaly_map[0].squeeze())


def test_a_variant_with_a_memory_is_refused():
    with pytest.raises(UsageError, match="a memory needs urd fit"):
        Urd(variant="urd-memory")


def test_features_of_the_memory_are_those_of_its_memory_bank():
    """PatchCore of anomalib pools and joins levels 2 and 3; so do we, also at the border."""
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    random = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, c, s, s, generator=random) for c, s in ((3, 16), (4, 8), (5, 4))]
    bank = PatchcoreModel(layers=["2", "3"], backbone="resnet18", pre_trained=False)
    theirs = bank.generate_embedding({k: bank.feature_pooler(levels[int(k) - 1]) for k in "23"})
    torch.testing.assert_close(features_of_places(levels), theirs.permute(0, 2, 3, 1))
