"""The models of anomalib 2.7 that the method ``anomalib`` trains, a row for each; ``docs/peers.md`` prints them.

Facts are those of the installed classes, see their files in ``anomalib.models.image``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

__all__ = ["MODELS", "PeerModel"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class PeerModel(NamedTuple):
    """One class of anomalib.

    Attributes:
        name: of its class.
        title: as papers print it.
        epochs: of its paper, in passes over the images; 1 of models that are fitted to features in one pass.
        batch: of its paper.
        trained: names of the parts that its optimizers hold, by the word that parameter counts take.
        size: side of the image that its paper takes.
        input: range of its images: ``unit`` is [0, 1], ``imagenet`` by ImageNet's mean and standard deviation, ``half``
            [-1, 1].
        multiple: sides have to be multiples of it.
        smallest: smallest side.
        network: which networks can be its backbone: ``timm``, ``torchvision`` or ``vit`` (DINOv2); none.
        backbone: networks that its paper takes, by their names here.
        fixed: whether the class takes that network alone, though it asks for a name.
        named_by: arguments of the class that name the network.
        frozen: modules that take the weights of the network.
        sized_by: argument of the class that takes the size, ``(S, S)``.
        named: arguments of the class that this benchmark sets, which 'options' can change.
        epochs_by: argument of the class that takes the number of epochs.
        needs: settings that name files, and cannot be left out.
        of_values: its constructor asks for values, so that it is built on the CPU first where it is counted alone.
        by_step: its schedule counts steps, though anomalib's class leaves it to be stepped once an epoch.
        maps: whether it makes maps.
        fitted: whether it is fitted in one pass.
        resumes: whether a killed training goes on from its last checkpoint, bit-equal on a CPU.
        deviations: what anomalib or this adapter does otherwise than the paper's code.
    """

    name: str
    title: str
    epochs: int
    batch: int
    trained: Mapping[str, str] = _NOTHING
    size: int = 256
    input: Literal["unit", "imagenet", "half"] = "imagenet"
    multiple: int = 1
    smallest: int = 32
    network: Literal["", "timm", "torchvision", "vit"] = ""
    backbone: str = ""
    fixed: bool = False
    named_by: tuple[str, ...] = ("backbone",)
    frozen: tuple[str, ...] = ()
    sized_by: str = ""
    named: Mapping[str, Any] = _NOTHING
    epochs_by: str = ""
    needs: tuple[str, ...] = ()
    of_values: bool = False
    by_step: bool = False
    maps: bool = True
    fitted: bool = False
    resumes: bool = True
    deviations: tuple[str, ...] = ()


_WIDE = "wide_resnet50_2.tv_in1k"
_DINO = "vit_base_patch14_reg4_dinov2.lvd142m"
_NO_CROP = "images are resized to the input's size without a crop of their centre"
_EXTRACTOR = ("model.feature_extractor.feature_extractor",)

MODELS: Mapping[str, PeerModel] = {
    "padim": PeerModel(
        *("Padim", "PaDiM (anomalib)", 1, 32),
        network="timm",
        backbone=_WIDE,
        frozen=_EXTRACTOR,
        fitted=True,
        deviations=("100 channels of a ResNet-18 and 550 of a Wide ResNet-50 are drawn at random, as in the paper",),
    ),
    "patchcore": PeerModel(
        *("Patchcore", "PatchCore (anomalib)", 1, 32),
        network="timm",
        backbone=_WIDE,
        frozen=_EXTRACTOR,
        fitted=True,
        deviations=(_NO_CROP, "10 % of all patches are kept"),
    ),
    "stfpm": PeerModel(
        *("Stfpm", "STFPM", 100, 32),
        {"student": "model.student_model"},
        network="timm",
        backbone="resnet18.tv_in1k",
        frozen=("model.teacher_model.feature_extractor",),
        deviations=("weight decay is 1e-3 (paper 1e-4)", "the last epoch counts (paper: best on 20 % held out)"),
    ),
    "reverse_distillation": PeerModel(
        *("ReverseDistillation", "Reverse Distillation", 200, 16),
        {"bottleneck": "model.bottleneck", "decoder": "model.decoder"},
        network="timm",
        backbone=_WIDE,
        frozen=("model.encoder.feature_extractor",),
        deviations=("Adam's second decay is 0.99 (paper 0.999)",),
    ),
    "cfa": PeerModel(
        *("Cfa", "CFA", 30, 4),
        {"descriptor": "model.descriptor.layer.conv2d"},
        network="torchvision",
        backbone=_WIDE,
        frozen=("model.feature_extractor",),
        deviations=(
            _NO_CROP,
            "the radius is not trained, so that the repelling part of the loss is 0",
            "the centre is the mean of the means of batches",
        ),
    ),
    "draem": PeerModel(
        *("Draem", "DRAEM", 700, 8),
        {"reconstruction": "model.reconstructive_subnetwork", "segmentation": "model.discriminative_subnetwork"},
        input="unit",
        needs=("textures",),
        of_values=True,
        deviations=(
            "weights start from torch's defaults, and images are not rotated",
            "the learning rate falls after 400 and 600 epochs, however many there are",
            "image score: the largest pixel (paper: of a mean over 21 x 21)",
        ),
    ),
    "supersimplenet": PeerModel(
        *("Supersimplenet", "SuperSimpleNet", 300, 32),
        {"adaptor": "model.adaptor", "heads": "model.segdec"},
        smallest=128,
        network="timm",
        backbone=_WIDE,
        frozen=("model.feature_extractor.feature_extractor.feature_extractor",),
        deviations=("scores are sigmoids of float32, so that the largest can be equal",),
    ),
    "glass": PeerModel(
        *("Glass", "GLASS", 640, 8),
        {"projection": "model.projection", "discriminator": "model.discriminator"},
        size=288,
        network="timm",
        backbone=_WIDE,
        frozen=("model.forward_modules.feature_aggregator.feature_extractor",),
        sized_by="input_shape",
        needs=("textures",),
        of_values=True,
        deviations=(
            "no foreground masks; 'svd' of 'options' is 0 for all categories (paper: chosen by category)",
            "the last epoch counts (paper's code: best on test)",
        ),
    ),
    "ganomaly": PeerModel(
        *("Ganomaly", "GANomaly", 15, 64),
        {"generator": "model.generator", "discriminator": "model.discriminator"},
        size=32,
        input="half",
        maps=False,
        deviations=("images are in [-1, 1], as in the paper's code (anomalib: by ImageNet's mean)",),
    ),
    "anomaly_dino": PeerModel(
        *("AnomalyDINO", "AnomalyDINO", 1, 32),
        size=448,
        multiple=14,
        smallest=56,
        network="vit",
        backbone="vit_small_patch14_dinov2.lvd142m",
        named_by=("encoder_name",),
        frozen=("model.feature_encoder.feature_extractor",),
        fitted=True,
        deviations=("all training images, without rotated copies and foreground masks", "images become squares"),
    ),
    "dinomaly": PeerModel(
        *("Dinomaly", "Dinomaly", 330, 16),
        {"bottleneck": "model.bottleneck", "decoder": "model.decoder"},
        size=392,
        multiple=14,
        smallest=56,
        network="vit",
        backbone=_DINO,
        named_by=("encoder_name",),
        frozen=("model.encoder.feature_extractor",),
        by_step=True,
        deviations=(
            _NO_CROP,
            "the schedule is stepped by batch, as in the paper's code (anomalib: by epoch, which trains nothing)",
            "epochs: about 5,000 steps for one category of MVTec AD; 10,000 for all fifteen are 44 epochs",
        ),
    ),
    "inp_former": PeerModel(
        *("InpFormer", "INP-Former", 200, 16),
        {
            "bottleneck": "model.bottleneck",
            "decoder": "model.decoder",
            "aggregation": "model.aggregation",
            "prototypes": "model.prototype_token",
        },
        size=392,
        multiple=14,
        smallest=56,
        network="vit",
        backbone=_DINO,
        named_by=("encoder_name",),
        frozen=("model.encoder.feature_extractor",),
        by_step=True,
        deviations=(_NO_CROP, "the schedule is stepped by batch, as in the paper's code"),
    ),
    "efficient_ad": PeerModel(
        *("EfficientAd", "EfficientAD", 350, 1),
        {"student": "model.student", "autoencoder": "model.ae"},
        input="unit",
        smallest=256,
        needs=("teacher", "outside"),
        by_step=True,
        resumes=False,
        deviations=(
            "epochs instead of 70,000 steps",
            "the learning rate falls after 95 % of the steps, as in the paper (anomalib: never)",
            "maps are scaled by the images that 'val_fraction' holds out",
        ),
    ),
    "uninet": PeerModel(
        *("UniNet", "UniNet", 100, 8),
        {
            "student": "model.student",
            "bottleneck": "model.bottleneck",
            "selection": "model.dfs",
            "teacher": "model.teachers.target_teacher",
        },
        network="torchvision",
        backbone=_WIDE,
        fixed=True,
        named_by=("student_backbone", "teacher_backbone"),
        frozen=("model.teachers.source_teacher", "model.teachers.target_teacher"),
        deviations=(
            "temperature 0.1 (paper's code: 2, and another learning rate for transistor)",
            "the last epoch counts (paper's code: best on test)",
            "maps of all levels are added without the paper's weighted decision",
        ),
    ),
    "patchflow": PeerModel(
        *("Patchflow", "PatchFlow", 100, 16),
        {"adaptor": "model.feature_adaptor", "flow": "model.flow"},
        size=768,
        network="timm",
        backbone="tf_efficientnet_b5.aa_in1k",
        frozen=_EXTRACTOR,
        of_values=True,
        deviations=(
            "levels 2 to 4: the backbone needs 'levels: [2, 3, 4]'",
            "weights are those of ImageNet-1k (anomalib: of a larger set, by a name without a tag)",
            "the last epoch counts (paper's code: best on test); the paper states no number of epochs",
        ),
    ),
    "l2bt": PeerModel(
        *("L2BT", "L2BT", 50, 4),
        {"backward": "model.backward_net", "forward": "model.forward_net"},
        size=224,
        multiple=14,
        smallest=56,
        network="vit",
        backbone=_DINO,
        fixed=True,
        named_by=(),
        frozen=("model.teacher.fe.feature_extractor",),
        deviations=("224 pixels, as in anomalib (paper: 1036)", "the batch size is ours"),
    ),
    "general_ad": PeerModel(
        *("GeneralAD", "GeneralAD", 160, 16),
        {"discriminator": "model.discriminator"},
        size=518,
        multiple=14,
        smallest=56,
        network="vit",
        backbone=_DINO,
        frozen=("model.feature_extractor.pretrained_model",),
        named={"layers": (12,)},
        epochs_by="epochs",
        deviations=("the last of 12 blocks of a ViT-B (paper: the last of a ViT-L)",),
    ),
    "dfm": PeerModel(
        *("Dfm", "DFM", 1, 32),
        network="timm",
        backbone="resnet50.tv_in1k",
        frozen=_EXTRACTOR,
        fitted=True,
        deviations=("the reconstruction error alone; its likelihood fails in anomalib 2.7",),
    ),
    "fastflow": PeerModel(
        *("Fastflow", "FastFlow (anomalib)", 500, 32),
        {"flow": "model.fast_flow_blocks", "normalization": "model.norms"},
        of_values=True,
        network="timm",
        backbone=_WIDE,
        frozen=("model.feature_extractor",),
    ),
    "cflow": PeerModel(
        *("Cflow", "CFLOW-AD (anomalib)", 50, 32),
        {"flow": "model.decoders"},
        of_values=True,
        network="timm",
        backbone=_WIDE,
        frozen=("model.encoder.feature_extractor",),
        deviations=("layers 2 to 4, as in the paper: the backbone needs 'levels: [2, 3, 4]'",),
    ),
    "uflow": PeerModel(
        *("Uflow", "U-Flow (anomalib)", 200, 8),
        {"flow": "model.flow"},
        of_values=True,
        network="timm",
        backbone=_WIDE,
        frozen=("model.feature_extractor.feature_extractor",),
        deviations=("ResNets alone (paper: MCaiT)",),
    ),
}
