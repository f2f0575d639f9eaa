"""The arithmetic of PassionSR's released code, for checkpoints its authors calibrated.

It differs from the definition elsewhere in this package (arXiv 2411.17106, its published code):

- rounding goes half away from zero;
- a padded convolution pads X̃, not X, with 0, and adds the convolution of δ with W, which is
  smaller at the border: here the product of a map of ones and `shift_kernel` = Σ_c W_c δ_c;
- linear layers use X̃ = (X + δ)/s and still add W δ: here a shift of −δ and a bias of b + W δ;
- the bias is rounded to one grid of the weights' bits;
- a split layer has a grid for each half of its channels, in the weight and in the input; a linear
  layer's input of tokens is halved along the tokens;
- in attention q and k have zero points, and a scale of each token stands between softmax and v,
  which ties a model to one image size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from passionsr_cli.errors import ModelError
from passionsr_cli.layers.attention import QuantizedAttention, together
from passionsr_cli.layers.convert import attention_shape
from passionsr_cli.layers.products import QuantizedLayer, product_of
from passionsr_cli.quantization.affine import SMALLEST_RANGE
from passionsr_cli.quantization.packing import pack, unpack
from passionsr_cli.quantization.schemes import OPERANDS, ReleasedAttentionPlan, ReleasedPlan

Tensors = dict[str, Tensor]
_GRID_NAMES = ("weight_scale", "weight_zero_point", "input_scale", "input_zero_point")


def round_away(x: Tensor) -> Tensor:
    """`x` rounded, halves away from zero."""
    return x.sign() * (x.abs() + 0.5).floor()


def released_grid(lower: Tensor, upper: Tensor, num_bits: int) -> tuple[Tensor, Tensor]:
    """(scale, zero_point) of bounds; the zero point has this package's sign, q = x/scale + z."""
    scale = (upper - lower).clamp_min(SMALLEST_RANGE) / (2**num_bits - 1)
    return scale, -round_away(lower / scale)


def released_codes(x: Tensor, scale: Tensor, zero_point: Tensor, num_bits: int) -> Tensor:
    """The integers of `x`, as whole floats in [0, 2^b − 1]."""
    return (round_away(x / scale) + zero_point).clamp(0, 2**num_bits - 1)


def released_round(x: Tensor, scale: Tensor, zero_point: Tensor, num_bits: int) -> Tensor:
    """`x` on its grid."""
    return (released_codes(x, scale, zero_point, num_bits) - zero_point) * scale


class ReleasedLayer(QuantizedLayer):
    """A convolution or linear layer as the released code computes it.

    It is made of, and `packed` gives, the tensors `weight`, the integers of s ⊙ W, packed, with
    `weight_scale` and `weight_zero_point` (halves, O); `input_scale` and `input_zero_point`
    (halves,); `bias`, `channel_scale`, `channel_shift`; of padded convolutions `shift_kernel`
    (O, h, w).
    """

    weight_scale: Tensor
    weight_zero_point: Tensor
    input_scale: Tensor
    input_zero_point: Tensor
    bias: Tensor
    channel_scale: Tensor
    channel_shift: Tensor
    shift_kernel: Tensor | None

    def __init__(self, layer: nn.Conv2d | nn.Linear, plan: ReleasedPlan, tensors: Tensors) -> None:
        super().__init__(product_of(layer))
        assert plan.weight is not None
        assert plan.activation is not None
        self.halves, self.weight_bits = plan.halves, plan.weight.num_bits
        self.input_bits = plan.activation.num_bits
        for name in (*_GRID_NAMES, "channel_scale", "channel_shift"):
            self.register_buffer(name, tensors[name].float())
        kernel = tensors.get("shift_kernel")
        self.register_buffer("shift_kernel", None if kernel is None else kernel.float())
        codes = unpack(tensors["weight"], self.weight_bits, tuple(layer.weight.shape)).float()
        self.weight = nn.Parameter(self._on_grids(codes, real=True), requires_grad=False)
        self.bias = nn.Parameter(tensors["bias"].float(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        values = self._round_input(self.product.move(x, self.channel_scale, self.channel_shift))
        out = self.product(values, self.weight, self.bias)
        if self.shift_kernel is None:
            return out
        ones = torch.ones(1, 1, *x.shape[2:], device=x.device)
        return out + self.product(ones, self.shift_kernel.unsqueeze(1), None)

    def _round_input(self, x: Tensor) -> Tensor:
        # The published code halves the second axis, whatever that is.
        tokens = self.halves == "tokens" and x.dim() > 2
        axis = 1 if tokens else self.product.channel_axis % x.dim()
        rounded = [
            released_round(part, scale, zero_point, self.input_bits)
            for part, scale, zero_point in zip(
                in_halves(x, len(self.input_scale), axis),
                self.input_scale,
                self.input_zero_point,
                strict=True,
            )
        ]
        return rounded[0] if len(rounded) == 1 else torch.cat(rounded, axis)

    @torch.no_grad()
    def packed(self) -> Tensors:
        """The tensors it was made of."""
        tensors = {"weight": pack(self._on_grids(self.weight, real=False), self.weight_bits)}
        for name in ("bias", "channel_scale", "channel_shift", "shift_kernel", *_GRID_NAMES):
            if (tensor := getattr(self, name)) is not None:
                tensors[name] = tensor.detach()
        for name in ("weight_zero_point", "input_zero_point"):
            tensors[name] = tensors[name].to(torch.int16)
        return tensors

    def _on_grids(self, x: Tensor, real: bool) -> Tensor:
        """Integers as what they stand for, or the other way round."""
        along = (-1, *[1] * (x.dim() - 1))
        parts = []
        for part, scale, zero_point in zip(
            in_halves(x, len(self.weight_scale), 1),
            self.weight_scale,
            self.weight_zero_point,
            strict=True,
        ):
            scale, zero_point = scale.reshape(along), zero_point.reshape(along)
            parts.append(
                (part - zero_point) * scale if real else (part / scale + zero_point).round()
            )
        return torch.cat(parts, 1)


class ReleasedAttention(QuantizedAttention):
    """The products of an attention as the released code computes them.

    Tensors: `channel_scale` (head width,), `token_scale` (tokens of the context,), and of each of
    query, key, probability and value `…_scale` and `…_zero_point`.
    """

    channel_scale: Tensor
    token_scale: Tensor

    def __init__(self, heads: int, plan: ReleasedAttentionPlan, tensors: Tensors) -> None:
        super().__init__(heads)
        self.num_bits = plan.activation.num_bits
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.float())

    def products(self, query: Tensor, key: Tensor, value: Tensor, factor: float) -> Tensor:
        tokens = len(self.token_scale)
        if key.shape[1] != tokens:
            raise ModelError(
                f"this checkpoint's attention has a scale for each of {tokens} tokens and found "
                f"{key.shape[1]}: with the released numerics it runs on tiles of one size alone; "
                "import it with --numerics standard for others"
            )
        q, k, v = (self.apart(tensor.float()) for tensor in (query, key, value))
        q = self._rounded("query", q * self.channel_scale)
        k = self._rounded("key", k / self.channel_scale)
        probability = torch.softmax(q @ k.transpose(-1, -2) * factor, dim=-1)
        probability = self._rounded("probability", probability * self.token_scale)
        v = self._rounded("value", v / self.token_scale[:, None])
        return together(probability @ v)

    def _rounded(self, name: str, x: Tensor) -> Tensor:
        scale, zero_point = getattr(self, f"{name}_scale"), getattr(self, f"{name}_zero_point")
        return released_round(x, scale, zero_point, self.num_bits)

    def packed(self) -> Tensors:
        """The tensors it was made of."""
        tensors = {name: tensor.detach() for name, tensor in self.named_buffers()}
        for name in OPERANDS:
            tensors[f"{name}_zero_point"] = tensors[f"{name}_zero_point"].to(torch.int16)
        return tensors


def in_halves(x: Tensor, count: int, axis: int) -> list[Tensor]:
    """`x` itself, or the two halves of an axis; the second has one more if it is odd."""
    if count == 1:
        return [x]
    cut = x.shape[axis] // 2
    return [x.narrow(axis, 0, cut), x.narrow(axis, cut, x.shape[axis] - cut)]


def build_released(
    layer: nn.Module, plan: ReleasedPlan | ReleasedAttentionPlan, tensors: Tensors
) -> ReleasedLayer | ReleasedAttention:
    """The layer of these tensors that computes what the released code does."""
    if isinstance(plan, ReleasedAttentionPlan):
        return ReleasedAttention(attention_shape(layer)[1], plan, tensors)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    return ReleasedLayer(layer, plan, tensors)
