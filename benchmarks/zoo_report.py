"""Turn the rows of zoo.py into docs/zoo.md: ``python benchmarks/zoo_report.py zoo.json … > docs/zoo.md``."""

import json
import math
import sys
from importlib.metadata import version
from pathlib import Path

PEERS = ("torch-pruning", "torch-kirigami")


def read(paths):
    """Rows by library, sparsity and model, then tool."""
    table = {}
    for path in paths:
        for key, row in json.loads(Path(path).read_text()).items():
            library, name, tool, sparsity = key.split(":")
            table.setdefault((library, float(sparsity)), {}).setdefault(name, {})[tool] = row
    return table


def cell(row):
    """One tool's outcome in a few words."""
    if row is None:
        return "not run"
    if "ratio" in row:
        floor = f" (floor {row['floor']:.3f})" if row["ratio"] > 0.35 and "floor" in row else ""
        proof = f" + {row['proof']:.1f}" if "proof" in row else ""
        return f"{row['ratio']:.3f}{floor}, {row['seconds']:.1f}{proof} s"
    words = " ".join(row.get("reason", "").split()).replace("|", "\\|")
    return f"{row['status']}: {words[:90]}"


def whole(row):
    """Seconds with the proof; rows without a part for it have it inside."""
    return row.get("total", row["seconds"])


def relative(models, peer, part="total"):
    """The geometric mean of our seconds over a peer's."""
    own = [model["ours"]["seconds"] if part == "seconds" else whole(model["ours"]) for model in models]
    logs = [math.log(mine / model[peer]["seconds"]) for mine, model in zip(own, models, strict=True)]
    return math.exp(sum(logs) / len(logs))


def summary(rows, sparsity):
    """Sentences about one library at one sparsity."""
    ours = [tools["ours"] for tools in rows.values() if "ours" in tools]
    done = [row for row in ours if row["status"] == "verified"]
    slow = sum(row["status"] == "too slow" for row in ours)
    lines = [f"- ours: {len(done)} of {len(ours)} verified, {slow} over the time limit"]
    if done:
        ratios = sorted(row["ratio"] for row in done)
        low = sum(ratio <= 0.35 for ratio in ratios)
        near = sum(row["ratio"] <= max(0.35, row.get("floor", 0) + 0.02) for row in done)
        ideal = (1 - sparsity) ** 2
        close = sum(ratio <= ideal + 0.06 for ratio in ratios)
        against = f"at most 0.06 over the ideal (1 - s)² = {ideal:.2f} for {close} of {len(done)}"
        if sparsity == 0.5:
            against = (
                f"at most 0.35 for {low} of {len(done)}, at most 0.35 or within 0.02 of the floor for {near}"
            )
        lines.append(
            f"- parameter ratio: median {ratios[len(ratios) // 2]:.3f}, {against}; "
            f"largest error {max(row['error'] for row in done):.1e}; "
            f"slowest {max(whole(row) for row in done):.1f} s with the proof"
        )
    if weighed := [row for row in done if "extra_mib" in row]:
        least = sum(row["extra_mib"] <= 2 * row["model_mib"] + 1024 for row in weighed)
        lines.append(
            f"- memory beyond the model: at most twice its own plus 1 GiB for {least} of {len(weighed)}"
        )
    for peer in PEERS:
        asked = [tools for tools in rows.values() if peer in tools]
        runs = [tools for tools in asked if tools[peer]["status"] == "runs"]
        both = [t for t in runs if t.get("ours", {}).get("status") == "verified"]
        if not asked:
            continue
        line = f"- {peer} {version(peer)}: {len(runs)} of {len(asked)} still run afterwards"
        if both:
            line += f"; over the {len(both)} both manage, our time with the proof is "
            line += f"{relative(both, peer):.2f} × theirs (geometric mean)"
        if apart := [t for t in both if "proof" in t["ours"]]:
            mean = relative(apart, peer, "seconds")
            line += f"; trace, plan and surgery alone {mean:.2f} × ({len(apart)} models)"
        lines.append(line)
    return lines


def outcome(good, of, share=1.0):
    """How many of how many, and whether that is the share that was asked for."""
    held = "yes" if of and good >= share * of else "no"
    return held, f"{good} of {of} ({good / of:.1%})" if of else "not measured"


def named(models, most=8):
    """A few models in words, the worst first."""
    listed = [f"{name} ({value})" for name, value in models]
    more = [f"{len(listed) - most} more"] if len(listed) > most else []
    return ", ".join(listed[:most] + more)


def asked(table):
    """What is asked of the whole zoo at sparsity 0.5: sentence, whether it holds, what was found."""
    libraries = {library: rows for (library, sparsity), rows in table.items() if sparsity == 0.5}
    own = {
        f"{library}:{name}": tools["ours"]
        for library, rows in libraries.items()
        for name, tools in rows.items()
        if "ours" in tools
    }
    done = {name: row for name, row in own.items() if row["status"] == "verified"}
    shares = {"torchvision": 1.0, "timm": 0.98, "hf": 1.0}
    for library, rows in sorted(libraries.items()):
        mine = [tools["ours"] for tools in rows.values() if "ours" in tools]
        verified = sum(row["status"] == "verified" for row in mine)
        share = "all" if shares[library] == 1 else f"at least {shares[library]:.0%}"
        yield f"{share} of {library} verified", *outcome(verified, len(mine), shares[library])
    slow = sorted(((whole(row), name) for name, row in done.items() if whole(row) > 60), reverse=True)
    late = [(name, "stopped") for name, row in own.items() if row["status"] == "too slow"]
    held, found = outcome(len(own) - len(slow) - len(late), len(own))
    over = named([*late, *((name, f"{seconds:.0f} s") for seconds, name in slow)])
    yield "nothing takes over 60 s, the proof included", held, found + (f"; over: {over}" if over else "")
    low = sum(row["ratio"] <= 0.35 for row in done.values())
    yield "at most 0.35 of the parameters left for 90 % of the models", *outcome(low, len(done), 0.9)
    weighed = {name: row for name, row in done.items() if "extra_mib" in row}
    fat = sorted(
        ((row["extra_mib"] - 2 * row["model_mib"] - 1024, name) for name, row in weighed.items()),
        reverse=True,
    )
    fat = [(name, f"{beyond:.0f} MiB more") for beyond, name in fat if beyond > 0]
    held, found = outcome(len(weighed) - len(fat), len(weighed))
    over = f"; over: {named(fat)}" if fat else ""
    yield "memory beyond the model at most twice its own plus 1 GiB", held, found + over
    yield from tracing({name: row for name, row in done.items() if "trace" in row})
    yield from elsewhere(table)
    yield from against(libraries)


def tracing(timed):
    """How long tracing and grouping take, measured in forward passes."""
    late = [
        (name, f"{row['trace']:.1f} s of {5 * row['forward'] + 0.3:.1f} s")
        for name, row in timed.items()
        if row["trace"] > 5 * row["forward"] + 0.3
    ]
    if one := timed.get("torchvision:resnet50"):
        limit = 5 * one["forward"] + 0.3
        found = (
            f"{one['trace']:.2f} s of {limit:.2f} s; so for {len(timed) - len(late)} of {len(timed)} networks"
        )
        held = "yes" if one["trace"] <= limit else "no"
        over = f", not for {named(late)}" if late else ""
        yield "tracing and grouping ResNet-50 within 5 forward passes + 0.3 s", held, found + over


def elsewhere(table):
    """What is asked at other sparsities, and of networks once they are pruned."""
    transformers = [
        tools["ours"]["ratio"]
        for (_, sparsity), rows in table.items()
        for name, tools in rows.items()
        if sparsity == 0.3 and "ours" in tools and any(word in name for word in ("vit", "deit", "swin"))
    ]
    close = sum(ratio <= 0.7**2 + 0.06 for ratio in transformers)
    yield "ViT and Swin at sparsity 0.3 at most 0.06 over (1 − s)²", *outcome(close, len(transformers))
    after = [
        tools["ours-afterwards"]
        for rows in table.values()
        for tools in rows.values()
        if "ours-afterwards" in tools
    ]
    same = sum(row["status"] == "as before" for row in after)
    held, found = outcome(same, len(after))
    neither = sum("exported" in row.get("before_too", {}) for row in after)
    yield (
        "pruned networks are copied, pickled, saved, exported (torch.export) and trained like dense ones",
        held,
        found + (f"; {neither} cannot be exported before pruning either" if neither else ""),
    )


# Rows that exist are kept, so a new row of ours may stand beside an old one of a peer.
APART = "; rows of ours and of the peer come from different sessions"


def against(libraries):
    """What is asked of us beside the peers."""
    for peer in PEERS:
        both = [
            tools
            for rows in libraries.values()
            for tools in rows.values()
            if tools.get(peer, {}).get("status") == "runs" and tools["ours"]["status"] == "verified"
        ]
        if not both:
            continue
        fair = sum(tools["ours"]["ratio"] <= 1.01 * tools[peer]["ratio"] for tools in both)
        yield f"no more parameters left than by {peer} (± 1 %), where both manage", *outcome(fair, len(both))
        apart = [tools for tools in both if "proof" in tools["ours"]]
        if peer == "torch-pruning" and apart:
            mean = relative(apart, peer, "seconds")
            words = f"{mean:.2f} × over {len(apart)} models (geometric mean){APART}"
            yield (
                f"trace, plan and surgery at most 0.5 × the time of {peer}",
                "yes" if mean <= 0.5 else "no",
                words,
            )
    if (one := libraries.get("torchvision", {}).get("densenet169", {})).get("torch-pruning"):
        part = one["ours"]["seconds"] / one["torch-pruning"]["seconds"]
        yield "DenseNet-169 at most 0.05 × that", "yes" if part <= 0.05 else "no", f"{part:.3f} ×{APART}"


def main():
    print("# The zoo\n")
    print(
        "Generated by `benchmarks/zoo.py` and `benchmarks/zoo_report.py`; do not edit. Random weights, batch "
        "size 1, one CPU thread; seconds are CPU time. Each cell is the "
        "ratio of parameters left and seconds for the whole: trace, plan, surgery and, for ours alone, the "
        "proof with gradients (after a +, where it was timed by itself). "
        "Above 0.35 the floor is given: what would be left if every channel could go "
        "but those that meet inputs, positions and outputs (a classifier keeps a row for every class). "
        "A peer is stopped after 60 s (20 s where its cell says so); its network counts as soon as it runs "
        "and nobody checks what it computes.\n"
    )
    table = read(sys.argv[1:])
    print("## The whole zoo at sparsity 0.5\n")
    print("| asked | holds | found |\n|---|---|---|")
    print("\n".join(f"| {sentence} | {held} | {found} |" for sentence, held, found in asked(table)) + "\n")
    for (library, sparsity), rows in sorted(table.items()):
        print(
            f"## {library} {version(library if library != 'hf' else 'transformers')}, sparsity {sparsity:g}\n"
        )
        print("\n".join(summary(rows, sparsity)) + "\n")
        peers = [peer for peer in PEERS if any(peer in tools for tools in rows.values())]
        print("| model | ours | error | changed by design | " + "".join(f"{peer} | " for peer in peers))
        print("|---|---|---|---|" + "---|" * len(peers))
        for name, tools in sorted(rows.items()):
            own = tools.get("ours")
            error = f"{own['error']:.0e}" if own and "error" in own else ""
            changed = own.get("changed_by_design", "") if own else ""
            print(
                f"| {name} | {cell(own)} | {error} | {changed} | "
                + "".join(f"{cell(tools.get(p))} | " for p in peers)
            )
        print()


if __name__ == "__main__":
    main()
