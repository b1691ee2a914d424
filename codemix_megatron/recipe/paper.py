"""The runs of "To Code, or Not To Code?" (Aryabumi et al. 2024, arXiv:2408.10914v1), as far as the paper names them.

What the paper leaves unsaid and is chosen here: the composition of the code in continued pre-training and cooldown
(web code and markup, 4 to 1), the synthetic share of a code mixture (10 % taken from both), all learning rates, and
what fills the cooldown's 20 % where it has no code (more of the other data).
"""

from dataclasses import dataclass

__all__ = ["CORPORA", "RUNS", "WARMUP_STEPS", "PaperPhase", "PaperRun", "flat_tokens"]

BILLION = 10**9
WARMUP_STEPS = 1325  # section 2.3

# corpus -> (kind, training tokens of section 2.1, what it is)
CORPORA = {
    "text": ("text", 503 * BILLION, "SlimPajama without GitHub and StackExchange"),
    "web_code": ("code", 139 * BILLION, "The Stack v1, filtered, 25 languages"),
    "markup": ("markup", 180 * BILLION, "markup of The Stack v1, 10 formats"),
    "code_adjacent": ("code_adjacent", 214 * BILLION // 10, "commits, notebooks, StackExchange"),
    "synthetic": ("synthetic", 32 * BILLION // 10, "verified Python problems; the paper's are not public"),
    "cooldown_text": ("text", 40 * BILLION, "high-quality text, math, instructions; the paper gives no size, 40B is ours"),
}

# Shares inside "code".
PLAIN = {"web_code": 0.8, "markup": 0.2}
WITH_SYNTHETIC = {"web_code": 0.72, "markup": 0.18, "synthetic": 0.1}


@dataclass(frozen=True)
class PaperPhase:
    """A phase with its budget; `code` is the share of code and `inside` what that is made of."""

    name: str
    tokens: int
    code: float
    inside: dict[str, float]
    text: str = "text"

    def mixture(self) -> dict:
        """Return the phase's mixture as a recipe writes it; what code is made of nests."""
        if self.code == 1:
            return self.inside
        if not self.code:
            return {self.text: 1.0}
        code = self.code if list(self.inside) == ["code"] else {"share": self.code, "mixture": self.inside}
        return {self.text: round(1 - self.code, 6), "code": code}

    def shares(self) -> dict[str, float]:
        """Return corpus -> share, groups multiplied out."""
        text = {self.text: 1 - self.code} if self.code < 1 else {}
        return {**text, **({name: self.code * part for name, part in self.inside.items()} if self.code else {})}


@dataclass(frozen=True)
class PaperRun:
    """One recipe: phases in order, where in the paper it stands, and whose weights it starts from."""

    name: str
    where: str
    phases: tuple[PaperPhase, ...]
    parent: str | None = None  # starts at the end of this run's phase "continue"


def init(tokens_billions: int, code: float, inside: dict[str, float] = PLAIN) -> PaperPhase:
    """Return pre-training from scratch."""
    return PaperPhase("init", tokens_billions * BILLION, code, inside)


CONTINUE = PaperPhase("continue", 200 * BILLION, 0.1, PLAIN)
COOLDOWN = PaperPhase("cooldown", 40 * BILLION, 0.2, PLAIN, "cooldown_text")
COOLDOWN_WITHOUT_CODE = PaperPhase("cooldown", 40 * BILLION, 0.0, PLAIN, "cooldown_text")

MAIN = (
    PaperRun("text-only", "Table 2", (init(400, 0.0), COOLDOWN)),
    PaperRun("balanced-only", "Table 2 without its synthetic code", (init(400, 0.5), COOLDOWN)),
    PaperRun("balanced-only-synth", "Table 2", (init(400, 0.5, WITH_SYNTHETIC), COOLDOWN)),
    PaperRun("balanced-to-text", "Figure 5b, balanced to text", (init(200, 0.5), CONTINUE, COOLDOWN)),
    PaperRun("balanced-to-text-synth", "Table 2; Figure 5b, balanced+synth to text", (init(200, 0.5, WITH_SYNTHETIC), CONTINUE, COOLDOWN)),
    PaperRun("code-to-text", "Table 2 without its synthetic code", (init(200, 1.0), CONTINUE, COOLDOWN)),
    PaperRun("code-to-text-synth", "Table 2", (init(200, 1.0, WITH_SYNTHETIC), CONTINUE, COOLDOWN)),
)
COOLDOWNS = (
    PaperRun("cooldown-with-code", "Figure 6, there with synthetic code before", (COOLDOWN,), "balanced-to-text"),
    PaperRun("cooldown-without-code", "Figure 6, there with synthetic code before", (COOLDOWN_WITHOUT_CODE,), "balanced-to-text"),
)
SWEEP = tuple(
    PaperRun(f"sweep-{percent:03}", f"Figure 4, {percent} % code", (init(200, percent / 100),)) for percent in (0, 25, 50, 75, 90, 100)
)
QUALITY = (
    PaperRun("quality-code", "Figure 5a, code", (init(200, 1.0, {"web_code": 1.0}),)),
    PaperRun("quality-code-markup", "Figure 5a, code+markup", (init(200, 1.0),)),
    PaperRun("quality-code-adjacent", "Figure 5a, code+adjacent", (init(200, 1.0, {"web_code": 0.85, "code_adjacent": 0.15}),)),
    PaperRun("quality-code-synth", "Figure 5a, code+synth", (init(200, 1.0, WITH_SYNTHETIC),)),
)

# size of the model -> its runs; the paper shows balanced-only, balanced-to-text and code-to-text at 2.8B.
RUNS = {"470m": (*MAIN, *COOLDOWNS, *SWEEP, *QUALITY), "2.8b": MAIN}


def flat_tokens(phases) -> dict[str, float]:
    """Return corpus -> tokens asked for over all phases, in the order of CORPORA."""
    totals = dict.fromkeys(CORPORA, 0.0)
    for phase in phases:
        for name, share in phase.shares().items():
            totals[name] += share * phase.tokens
    return {name: tokens for name, tokens in totals.items() if tokens}
