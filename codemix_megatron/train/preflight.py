"""Before a model is built: are the nodes alike, do they share the run folder, and does none of them slow the others down?"""

import shutil
import time
import uuid
from dataclasses import dataclass
from functools import partial
from typing import Any

from codemix_megatron.errors import LaunchError
from codemix_megatron.parallel.exchange import ExchangeRates, Partners, exchange_rates, find_partners
from codemix_megatron.parallel.ranks import Ranks, gather_on_main, on_main, scatter_from_main
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.events import PreflightEvent
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.node_facts import QUESTION, NodeFacts, Token, facts_of_node, wait_for_text
from codemix_megatron.train.node_faults import Complaint, clock_seconds, differences, rate_per_node, slow_nodes, wrong_clocks
from codemix_megatron.watch.rank_environment import node_name

__all__ = ["Preflight", "check_nodes"]


@dataclass(frozen=True)
class Preflight:
    """What was found: figures for the journal, and what to warn of."""

    figures: dict[str, Any]
    warnings: list[str]

    def event(self, step: int) -> PreflightEvent:
        """Return what the journal says of it."""
        return PreflightEvent(step=step, **self.figures)


def check_nodes(recipe: Recipe, run: RunFolder, ranks: Ranks) -> Preflight:
    """Compare the nodes of this start. Every rank calls this; all raise LaunchError, or none does."""
    began, mode = time.perf_counter(), recipe.parallel.preflight
    if mode == "off":
        return Preflight({"nodes": None}, [])
    nodes = gather_on_main(ranks, node_name())
    partners = scatter_from_main(ranks, partial(find_partners, nodes))
    figures: dict = {"nodes": partners.num_nodes, "ranks": ranks.size}
    refusals: list[Complaint] = []
    warnings: list[Complaint] = []
    if partners.num_nodes > 1:
        measured, refusals, warnings = compare_nodes(recipe, run, ranks, nodes, partners)
        figures |= measured
    figures = {**figures, "seconds": round(time.perf_counter() - began, 4)}
    if mode == "strict":
        refusals, warnings = refusals + warnings, []
    if refusals:
        raise refusal(refusals, partners.num_nodes)
    return Preflight(figures, [text for _, text in warnings])


def refusal(complaints: list[Complaint], num_nodes: int) -> LaunchError:
    """Return one error of all complaints; ranks on other nodes than the accused ones carry it."""
    texts = [text for _, text in complaints]
    fault = LaunchError("nodes differ: " + (texts[0] if len(texts) == 1 else "\n  ".join([f"{len(texts)} faults", *texts])))
    fault.is_carried = not any(node_name() in accused for accused, _ in complaints)
    fault.evidence = "it differs from most nodes" if num_nodes > 2 else None  # of two nobody knows which is the odd one
    return fault


def compare_nodes(recipe: Recipe, run: RunFolder, ranks: Ranks, nodes: list[str], partners: Partners):
    """Return figures (on the main rank alone, which judges), refusals and warnings. `nodes` are known to the main rank."""
    token = on_main(ranks, partial(write_token, run))
    clocks, gathered_at = gather_on_main(ranks, time.time()), time.time()
    facts = [f for f in gather_on_main(ranks, facts_of_node(recipe, ranks, token) if partners.is_first else None) if f]
    rates = gather_on_main(ranks, exchange_rates(ranks, partners))
    figures: dict = {}

    def judge():
        ahead = {rank: clock_seconds(read_at, token.written_at, gathered_at) for rank, read_at in enumerate(clocks)}
        figures.update(figures_of(facts, ahead, rates, nodes))
        refusals = differences(facts) + unseen_answers(token, facts)
        warnings = wrong_clocks(facts, ahead) + slow_nodes(facts, rates, nodes)
        shutil.rmtree(token.folder, ignore_errors=True)
        return refusals, warnings

    return figures, *on_main(ranks, judge)


def figures_of(facts: list[NodeFacts], ahead: dict[int, float], rates: list[ExchangeRates], nodes: list[str]) -> dict:
    """Return what was measured, for the journal."""
    measured = {
        f"bytes_per_second_{what}": {node: round(rate) for node, rate in rate_per_node(rates, nodes, what).items()}
        for what in ("within", "between")
    }
    return {"device": facts[0].device, "clock_seconds": round(max(map(abs, ahead.values())), 3), **measured}


def write_token(run: RunFolder) -> Token:
    """Write a file no earlier start has written, in a folder of its own."""
    text = uuid.uuid4().hex
    folder = run.logs / f"preflight-{text[:8]}"
    folder.mkdir(parents=True)
    (folder / QUESTION).write_text(text)
    return Token(folder, text, time.time())


def unseen_answers(token: Token, facts: list[NodeFacts]) -> list[Complaint]:
    """Return which nodes wrote into the run folder what the main rank does not see."""
    complaints: list[Complaint] = []
    for f in facts:
        if f.folder_fault is None and (fault := wait_for_text(token.answer(f.rank), token.text)):
            complaints.append(((f.node,), f"{f.node} (rank {f.rank}): the run folder: here {fault}; mount the same file system there"))
    return complaints
