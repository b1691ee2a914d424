"""Which model a command asks: one at an OpenAI-compatible endpoint, or one in a Hugging Face folder."""

__all__ = ["asked_model_fault", "least_fault"]


def asked_model_fault(arguments, role: str) -> str | None:
    """Say what is wrong with --endpoint, --model and --ROLE-folder, of which exactly one model has to come out; None where one does."""
    folder = getattr(arguments, f"{role}_folder")
    if bool(arguments.endpoint) == bool(folder):
        return f"name one {role}: --endpoint URL with --model NAME, or --{role}-folder DIR"
    if arguments.endpoint and not arguments.model:
        return f"--model: missing; it is the {role}'s name at the endpoint"
    if arguments.endpoint and not arguments.endpoint.startswith(("http://", "https://")):
        return f"--endpoint: found {arguments.endpoint!r}, needs http:// or https://"
    return None


def least_fault(arguments, least: dict[str, int]) -> str | None:
    """Say which number is below the least that is allowed; None where none is."""
    for name, lowest in least.items():
        if (value := getattr(arguments, name)) is not None and value < lowest:
            return f"--{name.replace('_', '-')}: found {value}, must be at least {lowest}"
    return None
