"""The whole benchmark: its cases in order, and the results as numbers and tables."""

from collections.abc import Callable
from typing import Any

from e2etts import tables
from e2etts.bench import PARTS
from e2etts.bench.machine import matmul_rate, memory_bandwidth
from e2etts.bench.peers import PAIRS
from e2etts.bench.steps import Case, counted_work, stage_step
from e2etts.bench.synthesis import synthesis_speed
from e2etts.bench.timing import in_turns
from e2etts.errors import UserError
from e2etts.provenance import commit, hardware
from e2etts.recipe import RecipeConfig

Say = Callable[[str], None]
STEPS = ("tokenizer", "lm", "fm", "rm", "joint")
ROOFLINE = ("every matrix product, convolution and attention as fast as it is alone, every tensor "
            "of all other operations once through memory, and no other cost")


def run_suite(recipes: dict[str, RecipeConfig], rounds: int, parts: set[str], pairs: list[str],
            say: Say) -> dict[str, Any]:
    """recipes: size -> configuration; the first one is compared with peers.

    Raises UserError for a part or a comparison that does not exist."""
    for kind, names, known in (("part", parts, PARTS), ("comparison", pairs, PAIRS)):
        for name in sorted(set(names) - set(known)):
            raise UserError(f"no {kind} '{name}' to measure; there are: {', '.join(known)}")
    say("machine")
    results: dict[str, Any] = {
        "hardware": hardware(), "commit": commit(), "rounds": rounds,
        "limits": _limits(), "steps": {}, "share_of_limit": {}, "ratios": {}, "at_most": {},
        "missing": {}, "rtf": {}}
    first = next(iter(recipes.values()))
    if "steps" in parts:
        for size, recipe in recipes.items():
            _steps(results, size, recipe, rounds, say)
    if "peers" in parts:
        for name in pairs or PAIRS:
            _pair(results, name, first, rounds, say)
    if "synthesis" in parts:
        for rows in (1, 16):
            say(f"synthesis, batch {rows}")
            results["rtf"][str(rows)] = synthesis_speed(first, rows, rounds)
    # Other work may have slowed the machine for a while: the limit is the best of both.
    again = _limits()
    results["limits"] = {name: max(rate, again[name]) for name, rate in results["limits"].items()}
    for name, s in results["steps"].items():
        s["traffic_seconds"] = s["traffic_gb"] * 1e9 / results["limits"]["memory_bytes"]
        results["share_of_limit"][name] = \
            s["tflop"] * 1e12 / results["limits"]["bf16_flops"] / s["seconds"]
    for b in results["at_most"].values():
        b["traffic_seconds"] = b["traffic_gb"] * 1e9 / results["limits"]["memory_bytes"]
        b["ratio"] = b["peer_seconds"] / (b["products_seconds"] + b["traffic_seconds"])
    return results


def _limits() -> dict[str, float]:
    return {"bf16_flops": matmul_rate("bf16"), "fp32_flops": matmul_rate("fp32"),
            "memory_bytes": memory_bandwidth()}


def _steps(results: dict, size: str, recipe: RecipeConfig, rounds: int, say: Say) -> None:
    cases: dict[str, Case] = {}
    for stage in STEPS:
        if stage in recipe.stages:
            say(f"step {size}/{stage}: counting")
            cases[stage] = stage_step(recipe, stage)
    timings = in_turns({name: case.run for name, case in cases.items()}, rounds, say)
    for name, case in cases.items():
        t = timings[name]
        results["steps"][f"{size}/{name}"] = {
            "audio_seconds_per_second": case.audio_seconds / t.median,
            "least": case.audio_seconds / t.most, "most": case.audio_seconds / t.least,
            "tflop": case.work.flops / 1e12, "parameters": case.parameters,
            "padding": case.padding, "peak_gib": t.peak_gib, "seconds": t.median,
            "products_seconds": case.work.products_seconds(),
            "traffic_gb": case.work.traffic_bytes / 1e9,
            "flops_a_byte": case.work.flops / case.work.traffic_bytes}


def _pair(results: dict, name: str, recipe: RecipeConfig, rounds: int, say: Say) -> None:
    make, peer, remedy = PAIRS[name]
    say(f"against peers: {name}")
    try:
        pair = make(recipe)
    except ImportError as e:
        results["missing"][name] = f"{peer}: {e}; {remedy}"
        return
    timings = in_turns({"ours": pair.ours, "theirs": pair.theirs}, rounds, lambda _: None)
    results["ratios"][name] = timings["theirs"].median / timings["ours"].median
    if pair.training:
        work = counted_work(pair.ours)
        results["at_most"][name] = {
            "peer_seconds": timings["theirs"].median, "products_seconds": work.products_seconds(),
            "traffic_gb": work.traffic_bytes / 1e9}


def suite_table(results: dict[str, Any]) -> str:
    """The results for a terminal and for Markdown."""
    limits = results["limits"]
    rows = [f"{results['hardware']}; commit {results['commit'][:12]}; "
            f"median of {results['rounds']} rounds", "",
            f"limits: bf16 {limits['bf16_flops'] / 1e9:.0f} GFLOP/s, fp32 "
            f"{limits['fp32_flops'] / 1e9:.0f} GFLOP/s, memory "
            f"{limits['memory_bytes'] / 1e9:.1f} GB/s"]
    if results["steps"]:
        rows += ["", *tables.table(
            ["step", "audio s/s", "least, most", "share of bf16 limit", "padding", "parameters",
             "peak GiB"],
            [[name, f"{s['audio_seconds_per_second']:.0f}", f"{s['least']:.0f}, {s['most']:.0f}",
              f"{results['share_of_limit'][name]:.1%}", f"{s['padding']:.1%}",
              f"{s['parameters'] / 1e6:.1f} M",
              "?" if s["peak_gib"] is None else f"{s['peak_gib']:.1f}"]
             for name, s in results["steps"].items()])]
        rows += ["", f"Roofline: {ROOFLINE}.", "", *tables.table(
            ["step", "TFLOP", "other GB", "FLOP a byte", "products", "traffic",
             "both, of measured"],
            [[name, f"{s['tflop']:.2f}", f"{s['traffic_gb']:.1f}", f"{s['flops_a_byte']:.1f}",
              f"{s['products_seconds']:.2f} s", f"{s['traffic_seconds']:.2f} s",
              f"{(s['products_seconds'] + s['traffic_seconds']) / s['seconds']:.0%}"]
             for name, s in results["steps"].items()])]
    if results["ratios"]:
        most = {name: f"{b['ratio']:.2f}" for name, b in results["at_most"].items()}
        rows += ["", f"At most: what ours would be as a multiple at its roofline ({ROOFLINE}).",
                 "", *tables.table(
            ["against", "peer", "times as fast", "at most"],
            [[name, PAIRS[name][1], f"{ratio:.2f}", most.get(name, "–")]
             for name, ratio in results["ratios"].items()], left=2)]
    rows += [f"missing: {name}: {why}" for name, why in results["missing"].items()]
    if results["rtf"]:
        rows += ["", *tables.table(
            ["batch", "real-time factor", "first audio", "LM", "RM", "FM", "vocoder"],
            [[batch, f"{r['rtf']:.3f}", f"{1000 * r['first_audio_seconds']:.0f} ms",
              *(f"{1000 * seconds:.0f} ms" for seconds in r["parts"].values())]
             for batch, r in results["rtf"].items()])]
    return "\n".join(rows)
