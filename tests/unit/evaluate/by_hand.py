"""lm-eval as its users call it, with its own Hugging Face model."""


def by_hand(model, definitions: list[tuple[str, dict]], items: int) -> dict:
    """Return task -> (results, samples) of lm-eval's own adapter for (name, definition) pairs."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from codemix_megatron.evaluate.harness import at_work

    with at_work(lambda *_: None):
        theirs = HFLM(pretrained=model.model, tokenizer=model.tokenizer, backend="causal", batch_size=4, softmax_dtype="float32")
        found = {}
        for name, definition in definitions:
            loaded = TaskManager(include_defaults=False).load([{**definition, "task": name}])
            results = lm_eval.evaluate(lm=theirs, task_dict=loaded, limit=items, bootstrap_iters=0)
            found[name] = (results["results"][name], results["samples"][name])
        return found
