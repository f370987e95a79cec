"""The models of anomalib 2.7 that the method ``anomalib`` trains, one row each; ``docs/peers.md`` prints them.

The facts describe the installed classes; see their files in ``anomalib.models.image``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

__all__ = ["MODELS", "PeerModel"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class PeerModel(NamedTuple):
    """One class of anomalib.

    Attributes:
        name: name of the class.
        title: title, as papers print it.
        epochs: epochs of its paper; 1 for models that are fitted to features in one pass.
        batch: batch size of its paper.
        trained: names of the trained parts, by the name that parameter counts use.
        size: side of the image in its paper.
        input: range of its images: ``unit`` is [0, 1], ``imagenet`` is normalized by ImageNet's mean and standard
            deviation, ``half`` is [-1, 1].
        multiple: sides must be multiples of this number.
        smallest: smallest side.
        network: possible backbones: ``timm``, ``torchvision`` or ``vit`` (DINOv2); empty for none.
        backbone: backbones of its paper, by their names here.
        fixed: whether the class supports only that network, although it has an argument for a name.
        named_by: arguments of the class for the name of the network.
        frozen: modules that use the weights of the network.
        sized_by: argument of the class for the size ``(S, S)``.
        named: arguments of the class that this benchmark sets; 'options' can override them.
        epochs_by: argument of the class for the number of epochs.
        needs: required settings that name files.
        of_values: whether its constructor reads values of tensors; it is then built on the CPU even to count
            parameters.
        by_step: whether its schedule counts steps, although anomalib steps it once per epoch.
        maps: whether it makes anomaly maps.
        fitted: whether it is fitted in one pass.
        resumes: whether a killed training resumes from its last checkpoint, bit-equal on a CPU.
        deviations: differences of anomalib or this adapter from the paper's code.
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
_NO_CROP = "images are resized to the input size without a centre crop"
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
        deviations=("weight decay is 1e-3 (paper 1e-4)", "the last epoch is used (paper: the best on 20 % held out)"),
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
            "the radius is not trained, so the repelling part of the loss is 0",
            "the centre is the mean of batch means",
        ),
    ),
    "draem": PeerModel(
        *("Draem", "DRAEM", 700, 8),
        {"reconstruction": "model.reconstructive_subnetwork", "segmentation": "model.discriminative_subnetwork"},
        input="unit",
        needs=("textures",),
        of_values=True,
        deviations=(
            "weights start from torch's default initialization, and images are not rotated",
            "the learning rate falls after 400 and 600 epochs, for any number of epochs",
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
        deviations=("scores are sigmoids in float32, so the largest scores can tie",),
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
            "the schedule is stepped by batch, as in the paper's code (anomalib: by epoch, and nothing is learned)",
            "the default epochs give about 5,000 steps for one category of MVTec AD; 44 give 10,000 for all fifteen",
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
            "maps are scaled with the images that 'val_fraction' holds out",
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
            "weights are from ImageNet-1k (anomalib: from a larger set, by a name without a tag)",
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
