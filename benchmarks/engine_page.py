"""docs/scale.md from what ``engine.py`` measured."""

from secateur.text import counted, duration

COMMAND = "python benchmarks/engine.py"
ASKED = {
    "status first": ("`secateur status`, records never seen", None),
    "status again": ("`secateur status`, again", ("wall", 1.0)),
    "plan again": ("`secateur plan --out`, after that", ("wall", 5.0)),
    "load": ("loading all of it for a report", None),
}


def held(value, limit, *, most=True):
    """Whether a number keeps to what is asked of it."""
    return "yes" if (value <= limit if most else value >= limit) else "**no**"


def busy(part):
    """How busy the machine was, in words."""
    machine = part["machine"]
    return f"Measured on {counted(machine['cores'], 'core')} at a load of {machine['load']}."


def large(part):
    """The table of a large run folder."""
    lines = [
        "## A large run folder",
        "",
        f"{part['cells']:,} finished cells with records of {part['bytes'] / 1e3:.0f} kB, each command in a process of its own.",
        busy(part),
        "",
        "| command | wall s | CPU s | peak MB | asked | holds |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in part["rows"].items():
        words, limit = ASKED[name]
        asked, answer = (f"{limit[1]:g} s", held(row[limit[0]], limit[1])) if limit else ("", "")
        lines.append(
            f"| {words} | {row['wall']:.2f} | {row['cpu']:.2f} | {row['peak_mb']} | {asked} | {answer} |"
        )
    return [
        *lines,
        "",
        "`status` and `plan` check a record once; later its file need only be the same one, untouched",
        "([how](running.md#the-run-folder)). At the end of a run all its records have been checked, so that the first `status` after it is one of",
        "those that come again. `run` and `report` check every record that they use, whatever was seen before. Of the records `status`, `plan` and `run` keep none in memory.",
    ]


def overhead(part):
    """What a cell costs beside its work."""
    lines = [
        "## What a cell costs beside its work",
        "",
        "A stage that computes nothing, one job: what a run of many cells takes more than a run of few, so without the start of the processes. It holds",
        "the lease, the message to the worker and back, the record with its seal, four `fsync`, and the check of what was written.",
        busy(part),
        "",
        "| record | cells | wall ms a cell | CPU ms a cell | asked | holds |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("small", "large"):
        row = part[name]
        lines.append(
            f"| {row['bytes'] / 1e3:.0f} kB | {row['cells']} | {row['wall_ms']:.1f} | {row['cpu_ms']:.1f} | 10 ms | {held(row['wall_ms'], 10)} |"
        )
    return lines


def jobs(part):
    """Two jobs against one."""
    return [
        "## Two jobs",
        "",
        f"{part['cells']} cells of {part['work']:g} s of one core each, start of the processes included: {part['one']:.1f} s with one job, {part['two']:.1f} s",
        f"with two, {part['speed_up']:.2f} × as fast (asked: 1.85 ×; holds: {held(part['speed_up'], 1.85, most=False)}). {busy(part)}",
    ]


def nodes(part):
    """Two Ray nodes against one."""
    return [
        "## Two Ray nodes",
        "",
        f"{part['cells']} cells of {part['work']:g} s of one core each, on nodes of one core of a cluster on one machine, the start of the cluster not",
        f"included: {part['one']:.1f} s with one node, {part['two']:.1f} s with two, {part['speed_up']:.2f} × as fast (asked: 1.85 ×; holds:",
        f"{held(part['speed_up'], 1.85, most=False)}). The driver, the head and the node managers share the cores with the cells. {busy(part)}",
    ]


def thesis(part, overhead_ms):
    """The thesis' study on paper."""
    feeds = part["shortest"] / (overhead_ms / 1e3)
    few, *_ = part["forecasts"]
    lines = [
        "## The thesis' study, on paper",
        "",
        f"[studies/thesis.yaml](../studies/thesis.yaml) has {part['cells']:,} cells, {part['repeats']:,} of which repeat another attack and take over its numbers:",
        f"{part['forwards']:.3g} forward and {part['backwards']:.3g} backward passes of one image at most, {part['flop']:.2g} floating-point operations. We had no GPU: the",
        f"speed of a device is an assumption, {part['tflops']:g} sustained TFLOP/s, a price of {part['price']:g} an hour as well. Passes, multiply-adds, sizes and the order of work are",
        "exact or measured; time is in inverse proportion to the speed until the runner becomes the limit. The command for another speed or price:",
        "",
        f"    secateur plan studies/thesis.yaml --devices 1,8,64 --tflops {part['tflops']:g} --price {part['price']:g}",
        "",
        "| devices | time | devices busy | device-hours | cost | bounded by |",
        "|---|---|---|---|---|---|",
    ]
    for each in part["forecasts"]:
        bound = "the longest chain" if each["waits"] else "devices"
        lines.append(
            f"| {each['devices']} | {duration(each['seconds'])} | {100 * each['busy']:.0f} % | {each['device_hours']:,.0f} | {part['price'] * each['device_hours']:,.0f} | {bound} |"
        )
    lines += [
        "",
        f"The longest chain, {duration(few['chain_seconds'])} on a device of this speed, is {' → '.join(few['chain'])}: no number of devices is faster.",
        f"That is so from about {part['even']} devices on.",
        "",
        "| stage | cells | device-hours | longest cell | writes | more devices help up to |",
        "|---|---|---|---|---|---|",
    ]
    for name, stage in few["stages"].items():
        most = round(stage["seconds"] / stage["longest"])
        lines.append(
            f"| {name} | {stage['cells']:,} | {stage['seconds'] / 3600:,.1f} | {duration(stage['longest'])} | {stage['bytes'] / 1e6:,.0f} MB | {most:,} |"
        )
    return [
        *lines,
        "",
        "Beyond that number of devices a stage by itself lasts as long as its longest cell. Pruning runs on the CPU beside a device, also where the rest does",
        "not; its few passes are priced as those of a device.",
        "",
        f"Storage: {part['disk_bytes'] / 1e9:,.0f} GB in all, checkpoints of running trainings included. With {overhead_ms:.1f} ms a cell the runner needs",
        f"{duration(overhead_ms / 1e3 * part['cells'])} for all cells. One runner could feed {feeds:,.1f} devices of this speed with the shortest cells of the study,",
        f"and 64 devices write {part['write_mb_s']:.1f} MB a second on average.",
    ]


def in_short(results):
    """The rows of scale: what is done, what is asked and measured, whether it holds, and the command."""
    large, overhead = results["large"], results["overhead"]
    asked = {name: entry for name, entry in ASKED.items() if entry[1]}
    rows = [
        (f"{words}, {large['cells']:,} cells", f"{limit[1]:g} s", f"{large['rows'][name][limit[0]]:.2f} s",
         held(large["rows"][name][limit[0]], limit[1]), "large")
        for name, (words, limit) in asked.items()
    ]  # fmt: skip
    for name in ("small", "large"):
        took = overhead[name]["wall_ms"]
        what = f"overhead of a cell, record of {overhead[name]['bytes'] / 1e3:.0f} kB"
        rows.append((what, "10 ms", f"{took:.1f} ms", held(took, 10), "overhead"))
    for name, words in (("jobs", "two jobs against one"), ("nodes", "two Ray nodes against one")):
        if name in results:
            faster = results[name]["speed_up"]
            rows.append((words, "1.85 ×", f"{faster:.2f} ×", held(faster, 1.85, most=False), name))
    return [
        f"| {what} | {limit} | {found} | {holds} | `{COMMAND} --only {part}` |"
        for what, limit, found, holds, part in rows
    ]


def page(results):
    """The text of the page."""
    parts = [
        ["# Scale", "", f"Written by `{COMMAND}`, which measures all of it. Do not edit.", ""],
        large(results["large"]),
        overhead(results["overhead"]),
        jobs(results["jobs"]),
        *([nodes(results["nodes"])] if "nodes" in results else []),
        thesis(results["thesis"], results["overhead"]["large"]["wall_ms"]),
    ]
    return "\n\n".join("\n".join(part) for part in parts).replace("\n\n\n", "\n\n") + "\n"
