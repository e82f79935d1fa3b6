"""``plan --devices``: the study on several numbers of devices, in a table."""

from typing import TYPE_CHECKING, Any

from secateur.cli.output import print_table, say
from secateur.errors import UserError
from secateur.text import duration

if TYPE_CHECKING:
    from secateur.study import Forecast, StudyPlan


def forecasts(
    laid: "StudyPlan", devices: str | None, *, tflops: float | None, price: float | None
) -> "list[Forecast]":
    """A forecast for each number of devices in a text like ``1,8,64``; none without one.

    Raises:
        UserError: the text holds something else, or a setting of devices is given without any.
    """
    from secateur.study import forecast

    if devices is None:
        if tflops is not None or price is not None:
            raise UserError("--tflops and --price need --devices", hint="add --devices 1,8,64")
        return []
    numbers = [int(word) if word.strip().isdecimal() else 0 for word in devices.split(",")]
    if min(numbers) < 1:
        raise UserError(f"'--devices {devices}' is no list of numbers above 0", hint="as in --devices 1,8,64")
    return [forecast(laid, number, tflops=tflops) for number in numbers]


def forecast_json(found: "list[Forecast]", price: float | None) -> list[dict[str, Any]]:
    """The forecasts as plain data, with what they cost."""
    return [
        {**each.to_json(), "cost": None if price is None else price * each.device_hours} for each in found
    ]


def print_forecasts(found: "list[Forecast]", *, tflops: float | None, price: float | None) -> None:
    """Print what each number of devices takes, and what the stages are."""
    if not found:
        return
    speed = "as measured here" if tflops is None else f"of {tflops:g} TFLOP/s each"
    rows = [
        (
            f"{each.devices:,}",
            duration(each.seconds),
            f"{100 * each.busy:.0f} %",
            f"{each.device_hours:,.0f}",
            *(() if price is None else (f"{price * each.device_hours:,.0f}",)),
            "the longest chain" if each.waits else "devices",
        )
        for each in found
    ]
    cost = () if price is None else (f"cost at {price:g} an hour",)
    columns = ("devices", "time", "busy", "device-hours", *cost, "bounded by")
    print_table(f"the rest on devices {speed}", columns, rows)
    stages = [
        (
            stage,
            f"{each.cells:,}",
            f"{each.seconds / 3600:,.1f}",
            duration(each.longest),
            f"{each.bytes / 1e6:,.0f} MB",
        )
        for stage, each in found[0].stages.items()
    ]
    print_table("by stage", ("stage", "cells", "device-hours", "longest cell", "writes"), stages)
    if found[0].chain:
        say(f"longest chain, {duration(found[0].chain_seconds)}: {', '.join(found[0].chain)}")
