"""Recipes in a study file, and how pydantic models are derived from dataclasses with ``Setting``s."""

import inspect
from dataclasses import MISSING, Field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import pydantic
from pydantic import AfterValidator, create_model

from secateur.config.values import Settings, unique
from secateur.recipes import PARTS, Recipe, Setting, setting_of

BOUNDS = ("ge", "gt", "le", "lt")


class RecipeSettings(Settings):
    """The base of the derived model of a recipe."""

    def recipe(self, *, base: Recipe | None = None) -> Recipe:
        """These settings as a recipe; with ``base``, only those that were given replace those of it."""
        given = {field.name for field in fields(Recipe)} if base is None else self.model_fields_set
        values = {field.name: getattr(self, field.name) for field in fields(Recipe) if field.name in given}
        for name, part in PARTS.items():
            if values.get(name) is not None:
                values[name] = part(**values[name].model_dump())
        return replace(base or Recipe(), **values)


# Dataclasses do not record which fields were given, as pydantic models do, and an arm inherits the others.
def derived(record: type[Any], base: type[Settings]) -> type[Settings]:
    """The pydantic model of a dataclass: its fields with a ``Setting``, their defaults, ranges and help."""
    about = (inspect.getdoc(record) or "").partition("\n\n")[0]
    chosen = [field for field in fields(record) if get_origin(field.type) is Annotated]
    given: dict[str, Any] = {field.name: _field(field) for field in chosen}
    return create_model(f"{record.__name__}Fields", __base__=base, __doc__=about, **given)


def _field(field: "Field[Any]") -> tuple[Any, Any]:
    kind, setting = get_args(field.type)[0], setting_of(field)
    options: dict[str, Any] = {bound: getattr(setting, bound) for bound in BOUNDS}
    options = {bound: value for bound, value in options.items() if value is not None}
    if part := PARTS.get(field.name):
        kind = derived(part, Settings) | None
    elif kind is float and setting.choices:
        kind = Annotated[kind, AfterValidator(lambda value: _chosen(value, setting))]
    elif kind is float:
        options["allow_inf_nan"] = False
    about = f"{setting.help} ({setting.unit})" if setting.unit else setting.help
    default = ... if field.default is MISSING else field.default
    return Annotated[kind, pydantic.Field(description=about, **options)], default


def _chosen(value: float, setting: Setting) -> float:
    if not setting.allows(value):
        raise ValueError(f"must be one of {setting.range} (got {value:g})")
    return value


# Derived at run time, so that type checkers see the base alone.
if TYPE_CHECKING:
    RecipeFields = RecipeSettings
else:
    RecipeFields = derived(Recipe, RecipeSettings)


class Arm(RecipeFields):
    """One way to fine-tune: a recipe, and which models it is for."""

    inherit: bool = pydantic.Field(
        default=False, description="settings not given here come from the model's own recipe"
    )
    models: Annotated[tuple[str, ...], AfterValidator(unique)] | None = pydantic.Field(
        default=None, description="the labels of the models that get this arm; by default all"
    )
