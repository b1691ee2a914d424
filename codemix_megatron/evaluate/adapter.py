"""Any language model of this package as lm-eval sees one: prompts cut into tokens as its own adapter does, scored our way."""

from functools import lru_cache

from codemix_megatron.errors import EvaluationError
from codemix_megatron.inference.generation import Sampling, generate
from codemix_megatron.inference.progress import Progress, silent
from codemix_megatron.inference.queries import log_likelihoods

__all__ = ["harness_model"]

DEFAULT_NEW_TOKENS = 256  # lm-eval's own
KNOWN_GENERATION_KEYS = {"until", "max_gen_toks", "max_new_tokens", "do_sample", "temperature", "top_p", "seed"}
CONTEXTS_KEPT = 4096


def harness_model(model, progress: Progress = silent):
    """Return an lm_eval model over `model`; its `begin(label)` names what `progress` reports next.

    `cut` holds the prompts since then of which the beginning did not fit.
    """
    from lm_eval.api.model import TemplateLM

    return type("HarnessModel", (Requests, TemplateLM), {})(model, progress)


class Requests:
    """What lm_eval asks of a model, answered by one of this package's; goes before lm_eval's own base class."""

    backend = "causal"

    def __init__(self, model, progress: Progress = silent):
        super().__init__()
        self.model, self.progress = model, progress
        self.tokenizer, self.label, self.done, self.total = None, "", 0, 0
        self.cut: set[str] = set()  # prompts that lost their beginning
        self.encoded = lru_cache(CONTEXTS_KEPT)(lambda text, is_whole: tuple(self.model.encode(text, is_whole)))

    def begin(self, label: str) -> None:
        self.label, self.done, self.total = label, 0, 0
        self.cut.clear()

    def count(self, number: int) -> None:
        self.done = min(self.total, self.done + number)
        self.progress(self.label, self.done, self.total)

    @property
    def eot_token_id(self):
        return self.model.end_id

    @property
    def prefix_token_id(self):
        return self.model.prefix_id

    @property
    def max_length(self):
        return self.model.max_length

    def tok_encode(self, string, add_special_tokens=None, **_):
        return list(self.encoded(string, add_special_tokens is not False))

    def loglikelihood(self, requests, disable_tqdm=True):
        return super().loglikelihood(requests, disable_tqdm=True)  # TemplateLM's, which cuts requests into tokens

    def _loglikelihood_tokens(self, requests, **_):
        self.total += len(requests)
        pairs = [(context, continuation) for _, context, continuation in requests]
        limit = self.model.max_length + 1  # the last token of a continuation is predicted, not read
        self.cut |= {text[0] for text, context, continuation in requests if len(context) + len(continuation) > limit}
        return [tuple(value) for value in log_likelihoods(self.model, pairs, self.count)]

    def loglikelihood_rolling(self, requests, disable_tqdm=True):
        return rolling(self.model, [request.args[0] for request in requests], self)

    def generate_until(self, requests, disable_tqdm=True):
        return continued(self.model, [request.args for request in requests], self)


def rolling(model, texts: list[str], counter) -> list[float]:
    """Return the log-likelihood of whole texts, cut into lm-eval's own windows."""
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    pairs, owners = [], []
    for number, text in enumerate(texts):
        for window in get_rolling_token_windows(counter.tok_encode(text), model.prefix_id, model.max_length, context_len=1):
            pairs.append(make_disjoint_window(window))
            owners.append(number)
    counter.total += len(pairs)
    totals = [0.0] * len(texts)
    for owner, value in zip(owners, log_likelihoods(model, pairs, counter.count), strict=True):
        totals[owner] += value.nats
    return totals


def continued(model, requests: list[tuple[str, dict]], counter) -> list[str]:
    """Continue prompts, those of like settings together."""
    counter.total += len(requests)
    by_settings: dict[Sampling, list[int]] = {}
    for number, (_, options) in enumerate(requests):
        by_settings.setdefault(read_options(options, counter), []).append(number)
    texts = [""] * len(requests)
    for sampling, numbers in by_settings.items():
        prompts = [list(counter.tok_encode(requests[number][0])) for number in numbers]
        room = counter.max_length - sampling.max_tokens
        counter.cut |= {requests[number][0] for number, prompt in zip(numbers, prompts, strict=True) if len(prompt) > room}
        for number, text in zip(numbers, generate(model, prompts, sampling, counter.count), strict=True):
            texts[number] = text
    return texts


def read_options(options: dict, counter) -> Sampling:
    """Return a task's generation_kwargs as Sampling; raises EvaluationError for what is not understood."""
    unknown = set(options) - KNOWN_GENERATION_KEYS
    if unknown:
        raise EvaluationError(
            f"generation_kwargs: {', '.join(sorted(unknown))} not known here; allowed are {', '.join(sorted(KNOWN_GENERATION_KEYS))}"
        )
    until = options.get("until") or ()
    temperature = float(options.get("temperature", 1.0 if options.get("do_sample") else 0.0))
    usual = DEFAULT_NEW_TOKENS if counter.max_length > DEFAULT_NEW_TOKENS else counter.max_length // 2
    new_tokens = options.get("max_gen_toks") or options.get("max_new_tokens") or usual
    return Sampling(
        max_tokens=int(new_tokens),
        stop=(until,) if isinstance(until, str) else tuple(until),
        temperature=0.0 if options.get("do_sample") is False else temperature,
        top_p=float(options.get("top_p", 1.0)),
        seed=int(options.get("seed", 1234)),
    )
