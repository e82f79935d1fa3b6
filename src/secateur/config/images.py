"""The images of a study: where they come from, and what a network wants done to them."""

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from secateur.config.checks import image_size, known_dataset

Fraction = Annotated[float, Field(gt=0, lt=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Settings(BaseModel):
    """The base of all settings: frozen, and nothing unknown is accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(Settings):
    """Where the images come from and how they are split into train, validation and test."""

    spec: Annotated[str, AfterValidator(known_dataset)] = Field(
        description="digits, idx:DIR, folder:DIR, ...; relative paths start at the working directory"
    )
    fractions: tuple[Fraction, Fraction, Fraction] = Field(
        default=(0.7, 0.1, 0.2), description="train, validation, test; official test parts stay whole"
    )
    sizes: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        default=None,
        description="train, validation and test images kept of these parts, by class; by default all",
    )

    resize: Annotated[Any, AfterValidator(image_size)] = Field(
        default=None,
        description="scale the images: the side of a square, or [height, width]",
        json_schema_extra={"type": ["integer", "array", "null"]},
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(sum(self.fractions) - 1) > 1e-9:
            raise ValueError(f"the fractions sum to {sum(self.fractions):g}, not to 1")
        return self


class Normalisation(Settings):
    """What a network wants done to images in [0, 1]: subtract the mean, divide by the standard deviation.

    One number for each channel, or a single one for all.
    """

    mean: tuple[Finite, ...] = Field(min_length=1)
    std: tuple[PositiveFloat, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise ValueError(f"mean has {len(self.mean)} values and std {len(self.std)}")
        return self

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation, equally many values of each."""
        count = max(len(self.mean), len(self.std))
        mean, std = (values * count if len(values) == 1 else values for values in (self.mean, self.std))
        return mean, std
