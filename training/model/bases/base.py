"""What training needs to know about a family's classes in diffusers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from visual_planner.planner.families import Family


class Base(ABC):
    """One family's classes, and how they are called.

    Attributes:
        family: the family's data.
        transformer: diffusers' class.
        autoencoder: diffusers' class.
        text_folders: folders of a base that hold text encoders.
        tokenizer: folder of the tokenizer that prompts are counted with.
        targets: preset of `LoraSection.targets` -> endings of the layers in blocks that it names.
        model_version: the family's name in model browsers.
    """

    family: Family
    transformer: type[nn.Module]
    autoencoder: type[nn.Module]
    text_folders: tuple[str, ...]
    tokenizer: str
    targets: Mapping[str, tuple[str, ...]]
    model_version: str

    @abstractmethod
    def released_shapes(self) -> nn.Module:
        """A transformer of the released base's size; call this where tensors are created on the meta device."""

    @abstractmethod
    def architecture(self, transformer: nn.Module) -> str:
        """The architecture's name in model-spec metadata."""

    @abstractmethod
    def normalised(self, vae: nn.Module, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, h, w) as the transformer takes them, of the encoder's mean in float32."""

    @abstractmethod
    def raw(self, vae: nn.Module, latents: torch.Tensor) -> torch.Tensor:
        """The inverse of `normalised`: what the decoder takes."""

    @abstractmethod
    def load_text(self, folder: Path, tokens: int, dtype: torch.dtype) -> nn.Module:
        """Text encoders of a base: prompts -> text embeddings (B, T, D), and a pooled vector (B, P) or None.

        Their `token_counts` tells which prompts are too long for them.

        Args:
            folder: diffusers folder of the base.
            tokens: length of the text; 0 takes the tokenizer's own.
            dtype: dtype of the weights.
        """

    @abstractmethod
    def text_widths(self, folder: Path) -> tuple[int, int]:
        """Widths (D, P) of the text embeddings and of the pooled vector (0: none), from configuration files."""

    @abstractmethod
    def text_length(self, folder: Path) -> int:
        """Length of the text according to the tokenizer's own files."""

    @abstractmethod
    def blank_text(self, config: Mapping, count: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Text embeddings and pooled vector in the shapes of a transformer's configuration, without values."""

    @abstractmethod
    def split_attention(self, transformer: nn.Module) -> None:
        """Prepare attention, in place, for conditions that pass through the transformer separately."""

    @abstractmethod
    def condition_keys(
        self,
        transformer: nn.Module,
        condition: torch.Tensor,
        ids: torch.Tensor,
        text: torch.Tensor,
        pooled: torch.Tensor | None,
        guidance: torch.Tensor | None,
    ) -> object:
        """Keys and values of a condition (B, M, C) with position ids (M, axes), for all steps of a plan."""

    @abstractmethod
    def velocity(
        self,
        transformer: nn.Module,
        tokens: torch.Tensor,
        condition: object,
        ids: torch.Tensor,
        text: torch.Tensor,
        pooled: torch.Tensor | None,
        sigma: torch.Tensor,
        guidance: torch.Tensor | None,
    ) -> torch.Tensor:
        """Velocity (B, N, C) of noise tokens.

        Args:
            transformer: a transformer of the family's class.
            tokens: (B, N, C) packed noisy latents.
            condition: (B, M, C) tokens for the same sequence, the result of `condition_keys`, or None.
            ids: (N + M, axes) position ids of noise tokens and condition.
            text: (B, T, D).
            pooled: (B, P), None in families without one.
            sigma: (B,) noise level in [0, 1].
            guidance: (B,) guidance to embed, None for a model without that input.
        """

    @abstractmethod
    def cached_velocity(
        self,
        transformer: nn.Module,
        tokens: torch.Tensor,
        condition: torch.Tensor,
        ids: torch.Tensor,
        text: torch.Tensor,
        pooled: torch.Tensor | None,
        sigma: torch.Tensor,
        guidance: torch.Tensor | None,
    ) -> torch.Tensor:
        """As `velocity`, with a separate condition (B, M, C) whose keys and values are computed in this call."""
