"""Images to features, by the threads of a pool.

On a CPU, each thread reads a few images and passes them through the backbone on one core: Pillow and torch release the
interpreter while they work, no core waits for another, and no feature depends on the number of cores. On any other
device, threads only read, and the images are passed as one stream of batches, as large as the memory allows.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from nfbench.core.device import free_memory, peak_of
from nfbench.core.errors import NfbenchError, is_of_memory, one_line
from nfbench.features.forward import DTYPE, channels_last, extract_batch, load_extractor, to_half
from nfbench.features.recipe import Recipe

__all__ = ["CPU_BATCH", "Extracted", "Extractor", "Read", "filled_up", "streams", "thread_pool"]

CPU_BATCH = 2
"""Images per forward pass of a thread on a CPU: a few fit into the core's cache."""
LARGEST_BATCH = 128
"""Largest number of images per batch on other devices: more are not faster."""
LARGEST_BYTES = 2**29
"""Bytes of the stored features of such a batch, at most: some batches wait in the host's memory."""
MEMORY_SHARE = 0.5
"""Share of the free memory of a device that one batch may take."""
_PROBED = 4

T = TypeVar("T")
Read = Callable[[Sequence[T]], tuple[Tensor, Tensor | None]]
"""Reads a few images: ``(B, 3, H, W)`` uint8, or ``(B, K, 3, H, W)``, and something that belongs to each, if any."""


class Extracted(NamedTuple):
    """Features of a few images.

    Attributes:
        levels: ``(B, C_l, H_l, W_l)`` each, or ``(B, K, C_l, H_l, W_l)``; the image first where the recipe keeps it.
        masks: what was read with the images, ``(B, ...)``, in the host's memory; None without.
    """

    levels: list[Tensor]
    masks: Tensor | None


class Extractor:
    """The network of a recipe on a device, and how images get through it.

    Args:
        recipe: how features are made.
        device: where they are computed.
        model: the network; loaded when it is first needed without.
        stored: features as a cache stores them, fp16 in the host's memory; otherwise fp32 on the device.
    """

    def __init__(
        self, recipe: Recipe, device: torch.device, model: nn.Module | None = None, *, stored: bool = True
    ) -> None:
        self.recipe, self.device, self.stored = recipe, device, stored
        if model is not None:
            self.model = channels_last(model, device)

    @cached_property
    def model(self) -> nn.Module:
        """The network on the device; raises as ``load_extractor`` does."""
        return channels_last(load_extractor(self.recipe), self.device)

    @cached_property
    def at_once(self) -> int:
        """Return the number of images per forward pass, counting each rotated view.

        On a CPU always the same number. On another device, those that take a share of its free memory, by what a few
        images take; halved whenever the memory runs out after all.
        """
        if not streams(self.device):
            return CPU_BATCH
        stored = sum(DTYPE.itemsize * math.prod(shape) for shape in self.recipe.arrays.values())
        images = torch.zeros(_PROBED, 3, *self.recipe.backbone.size, dtype=torch.uint8)
        try:
            taken = peak_of(self.device, lambda: self._pass(images, _PROBED))
        except Exception as error:
            if not is_of_memory(error):
                raise
            return 1
        fitting = MEMORY_SHARE * free_memory(self.device) * _PROBED / max(1, taken)
        return max(1, int(min(LARGEST_BATCH, LARGEST_BYTES / stored, fitting)))

    def begin(self, read: Read[T], items: Sequence[T], pool: Executor, per_task: int = 1) -> Callable[[], Extracted]:
        """Start to extract the features of some images, and return a function that waits for them.

        Args:
            read: reads images; called by the threads of the pool.
            items: what is read.
            pool: does the work on a CPU, and reads for other devices, whose part is done by the caller in the end.
            per_task: images that are read, and passed, by one thread at once on a CPU.

        The end raises what ``read`` and ``extract_batch`` raise, and NfbenchError for values beyond fp16 in ``stored``
        features and where the device's memory does not take a single image.
        """
        if streams(self.device):
            tasks = [pool.submit(read, items[number : number + 1]) for number in range(len(items))]
            return lambda: self._streamed(*_joined([task.result() for task in tasks], self.device))
        self.model  # noqa: B018 - loaded once, before threads ask for it
        firsts = range(0, len(items), per_task)
        passed = [pool.submit(self._in_thread, read, items[first : first + per_task], per_task) for first in firsts]

        def end() -> Extracted:
            parts = [task.result() for task in passed]
            return Extracted(_cat_levels([part.levels for part in parts]), _cat([part.masks for part in parts]))

        return end

    def _in_thread(self, read: Read[T], items: Sequence[T], count: int) -> Extracted:
        """Pass a fixed number of images: the last bits of a feature may depend on the batch size."""
        images, masks = read(items)
        levels = self._pass(filled_up(images, count), CPU_BATCH)
        return Extracted([level[: len(items)] for level in levels], masks)

    def _streamed(self, images: Tensor, masks: Tensor | None) -> Extracted:
        """Pass any number of images in batches, which shrink if memory runs out."""
        parts: list[list[Tensor]] = []
        first, views = 0, images.shape[1] if images.ndim == 5 else 1
        while first < len(images):
            batch = images[first : first + max(1, self.at_once // views)]
            try:
                part = self._pass(batch, self.at_once)
            except Exception as error:
                if not is_of_memory(error):
                    raise
                self._lower(error)
                continue
            parts.append(part)
            first += len(batch)
        return Extracted(_cat_levels(parts), masks)

    def _lower(self, error: Exception) -> None:
        """Halve the batch after memory has run out."""
        if self.at_once == 1:
            backbone = self.recipe.backbone
            raise NfbenchError(
                f"backbone '{backbone.name}' at {backbone.size} pixels: one image is too much for the memory of "
                f"{self.device} ({one_line(error, 120).rstrip('.')}); lower 'input_size', or give this job a device "
                "that is free"
            ) from error
        self.at_once //= 2

    @torch.no_grad()
    def _pass(self, images: Tensor, size: int) -> list[Tensor]:
        levels = extract_batch(self.model, images, self.recipe, self.device, size)
        if not self.stored:
            return levels
        name = self.recipe.backbone.name
        return [to_half(x, name, level).cpu() for x, level in zip(levels, self.recipe.arrays, strict=True)]


def filled_up(images: Tensor, count: int) -> Tensor:
    """``(B, ...)`` to ``(count, ...)``, by repeating the last one where ``B`` is smaller."""
    missing = count - len(images)
    return torch.cat([images, images[-1:].expand(missing, *images.shape[1:])]) if missing > 0 else images


def streams(device: torch.device) -> bool:
    """Return whether images are passed as one stream of batches instead of by each thread."""
    return device.type != "cpu"


def _cat_levels(parts: Sequence[list[Tensor]]) -> list[Tensor]:
    return parts[0] if len(parts) == 1 else [torch.cat(level) for level in zip(*parts, strict=True)]


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None


def _joined(parts: Sequence[tuple[Tensor, Tensor | None]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Images of one batch in memory from which the device copies without waiting, and what belongs to them."""
    images = [part for part, _ in parts]
    shape = (sum(map(len, images)), *images[0].shape[1:])
    batch = torch.empty(shape, dtype=images[0].dtype, pin_memory=device.type == "cuda")
    return torch.cat(images, out=batch), _cat([masks for _, masks in parts])


@contextmanager
def thread_pool(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that use one core each; the end of the context drops waiting work."""
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(count)  # the setting of one thread is what later threads start with
