"""`codemix law` on as many runs as RegMix had: 512 of 17 domains, all four forms with their errors, the choice and the proposals.

The runs are made (a log-linear truth with noise): only the time is measured. Ends with one line of JSON.
"""

import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from codemix_megatron.analysis.law_forms import USUAL
from codemix_megatron.analysis.law_tables import MixtureTable
from codemix_megatron.analysis.law_views import Wish, fit_views, propose_mixtures

RUNS, DOMAINS, MOST_SECONDS = 512, 17, 10.0


def main() -> None:
    """Fit, propose, print."""
    random = np.random.default_rng(1)
    shares = random.dirichlet(np.full(DOMAINS, 0.4), RUNS)
    loss = 3 + np.exp(0.3 + shares @ random.normal(size=DOMAINS)) + 0.02 * random.normal(size=RUNS)
    table = MixtureTable(
        runs=[str(i) for i in range(RUNS)], domains=[f"domain-{i}" for i in range(DOMAINS)], shares=shares, metrics=["loss"],
        values=loss[:, None],
    )  # fmt: skip
    began = time.process_time()
    fit = fit_views(table, "loss", USUAL)
    fitted = time.process_time()
    wish = Wish(corpus_tokens={}, tokens=None, max_epochs=4.0, explore=3, maximize=False, extrapolate=False, at_sizes={})
    proposals = propose_mixtures([fit], wish, [])
    ended = time.process_time()
    for form in fit.views["totals"]:
        print(f"{form.kind:18} error {100 * form.error.relative:.0f} % of the spread, out of range {100 * (form.error.outside or 0):.0f} %")
    print(f"fitting {fitted - began:.1f} CPU-seconds, proposing {ended - fitted:.1f}; used {fit.law.kind}; {len(proposals)} mixtures")
    seconds = ended - began
    print(
        json.dumps(
            {
                "bench": "law",
                "cpu_seconds": round(seconds, 2),
                "targets": {"cpu_seconds": f"<= {MOST_SECONDS:g}"},
                "met": seconds <= MOST_SECONDS,
            }
        )
    )


if __name__ == "__main__":
    main()
