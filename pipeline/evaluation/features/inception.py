"""Inception-v3 of the Frechet inception distance, for torch-fidelity's weights.

Implemented here because torch-fidelity requires torchvision and loads its weights as a pickle. A
test compares the features with torch-fidelity's.

Source: Szegedy et al. 2016, arXiv:1512.00567, in TensorFlow's 2015 version: average pooling
excludes the padding, and the last block uses max pooling instead of average pooling.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional

SIDE = 299
NUM_FEATURES = 2048

_CLASSES = 1008


@dataclass(frozen=True)
class _Conv:
    """Specification of a convolution with batch norm; stride 1 preserves the size."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


_Step = _Conv | str | tuple[_Conv, _Conv]  # a pool by name; two parallel convolutions
_Branch = Sequence[_Step]


class _Normed(nn.Module):
    def __init__(self, inner: int, conv: _Conv, padding: tuple[int, int] | None = None) -> None:
        super().__init__()
        same = (conv.kernel[0] // 2, conv.kernel[1] // 2) if conv.stride == 1 else (0, 0)
        self.conv = nn.Conv2d(
            inner,
            conv.channels,
            conv.kernel,
            stride=conv.stride,
            padding=same if padding is None else padding,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(conv.channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Parallel branches with concatenated channels."""

    def __init__(self, inner: int, branches: Sequence[_Branch]) -> None:
        super().__init__()
        self._branches = branches
        for branch in branches:
            channels = inner
            for step in branch:
                for conv in _convolutions(step):
                    self.add_module(conv.name, _Normed(channels, conv))
                channels = sum(conv.channels for conv in _convolutions(step)) or channels

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._run(branch, x) for branch in self._branches], 1)

    def _run(self, branch: _Branch, x: Tensor) -> Tensor:
        for step in branch:
            if isinstance(step, str):
                x = _pool(step, x)
            else:
                x = torch.cat([self.get_submodule(c.name)(x) for c in _convolutions(step)], 1)
        return x


def _convolutions(step: _Step) -> tuple[_Conv, ...]:
    if isinstance(step, str):
        return ()
    return (step,) if isinstance(step, _Conv) else step


def _pool(name: str, x: Tensor) -> Tensor:
    if name == "average":
        return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    if name == "maximum":
        return functional.max_pool2d(x, 3, stride=1, padding=1)
    return functional.max_pool2d(x, 3, stride=2)


_Size = tuple[int, int]
_3X3, _1X7, _7X1, _1X3, _3X1 = (3, 3), (1, 7), (7, 1), (1, 3), (3, 1)


def _chain(name: str, *convs: tuple[int] | tuple[int, _Size] | tuple[int, _Size, int]) -> _Branch:
    """Return a branch of convolutions named `<name>_1`, `<name>_2`, ..."""
    return [_Conv(f"{name}_{number}", *conv) for number, conv in enumerate(convs, start=1)]


def _block_a(pooled: int) -> list[_Branch]:
    return [
        [_Conv("branch1x1", 64)],
        _chain("branch5x5", (48,), (64, (5, 5))),
        _chain("branch3x3dbl", (64,), (96, _3X3), (96, _3X3)),
        ["average", _Conv("branch_pool", pooled)],
    ]


def _block_b() -> list[_Branch]:
    return [
        [_Conv("branch3x3", 384, _3X3, 2)],
        _chain("branch3x3dbl", (64,), (96, _3X3), (96, _3X3, 2)),
        ["halve"],
    ]


def _block_c(inner: int) -> list[_Branch]:
    return [
        [_Conv("branch1x1", 192)],
        _chain("branch7x7", (inner,), (inner, _1X7), (192, _7X1)),
        _chain("branch7x7dbl", (inner,), (inner, _7X1), (inner, _1X7), (inner, _7X1), (192, _1X7)),
        ["average", _Conv("branch_pool", 192)],
    ]


def _block_d() -> list[_Branch]:
    return [
        _chain("branch3x3", (192,), (320, _3X3, 2)),
        _chain("branch7x7x3", (192,), (192, _1X7), (192, _7X1), (192, _3X3, 2)),
        ["halve"],
    ]


def _block_e(pool: str) -> list[_Branch]:
    def both(name: str) -> tuple[_Conv, _Conv]:
        return _Conv(f"{name}a", 384, _1X3), _Conv(f"{name}b", 384, _3X1)

    return [
        [_Conv("branch1x1", 320)],
        [*_chain("branch3x3", (384,)), both("branch3x3_2")],
        [*_chain("branch3x3dbl", (448,), (384, _3X3)), both("branch3x3dbl_3")],
        [pool, _Conv("branch_pool", 192)],
    ]


class InceptionV3(nn.Module):
    """Maps pixels of any size to the 2,048 pooled features before the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Normed(3, _Conv("", 32, (3, 3), 2))
        self.Conv2d_2a_3x3 = _Normed(32, _Conv("", 32, (3, 3)), padding=(0, 0))
        self.Conv2d_2b_3x3 = _Normed(32, _Conv("", 64, (3, 3)))
        self.Conv2d_3b_1x1 = _Normed(64, _Conv("", 80))
        self.Conv2d_4a_3x3 = _Normed(80, _Conv("", 192, (3, 3)), padding=(0, 0))
        self.Mixed_5b = _Block(192, _block_a(32))
        self.Mixed_5c = _Block(256, _block_a(64))
        self.Mixed_5d = _Block(288, _block_a(64))
        self.Mixed_6a = _Block(288, _block_b())
        self.Mixed_6b = _Block(768, _block_c(128))
        self.Mixed_6c = _Block(768, _block_c(160))
        self.Mixed_6d = _Block(768, _block_c(160))
        self.Mixed_6e = _Block(768, _block_c(192))
        self.Mixed_7a = _Block(768, _block_d())
        self.Mixed_7b = _Block(1280, _block_e("average"))
        self.Mixed_7c = _Block(2048, _block_e("maximum"))
        self.fc = nn.Linear(NUM_FEATURES, _CLASSES)  # unused, but part of the weight file

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"]) -> Float32[Tensor, "b 2048"]:
        """Compute features of pixels from 0 to 255."""
        x = (resize_like_tensorflow1(pixels.to(self.fc.weight.dtype)) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_pool("halve", x)))
        x = _pool("halve", x)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))


def resize_like_tensorflow1(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 299 299"]:
    """Resize bilinearly to 299 pixels a side as TensorFlow 1: pixel i samples i * size / 299.

    Other libraries sample at half-pixel offsets, which changes every distance.
    """
    rows, down, by_row = _sample_points(x.shape[2], x)
    columns, right, by_column = _sample_points(x.shape[3], x)
    x = x[:, :, rows] * (1 - by_row[:, None]) + x[:, :, down] * by_row[:, None]
    return x[..., columns] * (1 - by_column) + x[..., right] * by_column


def _sample_points(size: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return, per output pixel: lower input index, upper input index, interpolation weight."""
    at = torch.arange(SIDE, dtype=torch.float32, device=like.device) * (size / SIDE)
    before = at.long()
    return before, (before + 1).clamp_max(size - 1), (at - before).to(like.dtype)
