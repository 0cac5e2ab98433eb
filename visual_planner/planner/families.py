"""Families of base models: what differs between them in tokens, position ids and latents, as data.

Base models belong to one family when the same planner code runs on them: same axes of position ids, same latents, same
names of layers. FLUX.1-dev, its fine-tunings and FLUX.1-Kontext are one family (Kontext is the value `kontext` of
`position_ids`); FLUX.2-dev and all of FLUX.2-klein (base and distilled, 4B and 9B) are another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import SpecError, brief


@dataclass(frozen=True)
class Family:
    """One family of base models.

    Args:
        name: as in a planner's record.
        title: as shown to a person.
        axes: axes of the position ids: (index, row, column), from FLUX.2 on also the place in the text.
        channels: channels of a latent.
        downscale: pixels per latent side.
        patch: latent pixels per token side.
        reference_index: index of a reference picture in the base's own training (`kontext` of `position_ids`).
        text_axis: axis of the ids in which text tokens are counted; None: they all have ids of zeros.
        pooled: whether the transformer takes a pooled text vector beside the text tokens.
        base_model: name of the base that planners of this family are trained on, where a record names none.
        base_shift: schedule shift at 256 tokens, where a record says none.
        max_shift: schedule shift at 4096 tokens, where a record says none.
    """

    name: str
    title: str
    axes: int
    channels: int
    downscale: int
    patch: int
    reference_index: float
    text_axis: int | None
    pooled: bool
    base_model: str
    base_shift: float
    max_shift: float

    @property
    def token_px(self) -> int:
        """Pixels per token side."""
        return self.downscale * self.patch

    @property
    def token_channels(self) -> int:
        """Values per packed token."""
        return self.channels * self.patch * self.patch


FLUX1 = Family(
    name="flux1",
    title="FLUX.1",
    axes=3,
    channels=16,
    downscale=8,
    patch=2,
    reference_index=1,
    text_axis=None,
    pooled=True,
    base_model="black-forest-labs/FLUX.1-dev",
    base_shift=0.5,
    max_shift=1.15,
)
"""FLUX.1-dev and FLUX.1-Kontext-dev."""
FLUX2 = Family(
    name="flux2",
    title="FLUX.2",
    axes=4,
    # The autoencoder has 32 channels at 1/8; its 2x2 patches are normalised as 128 channels at 1/16.
    channels=128,
    downscale=16,
    patch=1,
    reference_index=10,
    text_axis=3,
    pooled=False,
    base_model="black-forest-labs/FLUX.2-klein-base-4B",
    # The base's own rule depends on tokens and steps; for grids and 4 to 50 steps it gives 1.9 to 2.2.
    base_shift=2.02,
    max_shift=2.02,
)
"""FLUX.2-klein (base and distilled, 4B and 9B) and FLUX.2-dev."""

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in (FLUX1, FLUX2)})
"""Family by the name in a planner's record."""


def family_of(name: object) -> Family:
    """Family by its name.

    Raises:
        SpecError: this version knows none of that name.
    """
    if not isinstance(name, str) or name not in FAMILIES:
        raise SpecError(f"planner spec family must be one of {', '.join(FAMILIES)}, got {brief(name)}")
    return FAMILIES[name]
