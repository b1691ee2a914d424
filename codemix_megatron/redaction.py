"""Secrets stay out of everything that is written: one layer, which all records pass.

Three rules. Of an address, what stands before @ and the values of a signed query are left out, and so is what has the form of
a key of a known issuer. Of the environment, only variables that are known to describe a job keep their values. Of a command
line, so does everything but what follows an option named like a secret.
"""

import os
import re
from collections.abc import Iterable, Mapping

from codemix_megatron.errors import CorpusError

__all__ = ["LEFT_OUT", "kept_environment", "names_secret", "redact", "redact_words", "secret_in", "with_variables"]

LEFT_OUT = "***"
USER_OF_URL = re.compile(r"(?<=://)[^\s/?#@\"'<>\\]{1,512}(?=@)")
VARIABLE = re.compile(r"\$\{\w{1,64}\}(?::\$\{\w{1,64}\})?")  # a reference to a secret is none
REFERENCE = re.compile(r"\$\{(\w{1,64})\}")
SIGNED = re.compile(
    r"(?<=[?&;])((?:x-amz-|x-goog-|x-oss-)?(?:signature|credential|security-token)|sig|sign|token|access_?token|auth|api_?key|key|password"
    r"|passwd|secret|client_secret|awsaccesskeyid|policy|se_token)=([^\s&;#\"'<>\\]{1,2048})",
    re.IGNORECASE,
)
KEYS = re.compile(
    r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_\w{22,251}|glpat-[\w-]{20,251}|hf_[A-Za-z0-9]{30,251}"
    r"|xox[abeoprs]-[\w-]{10,251}|sk-[\w-]{32,251}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,512}|eyJ[\w-]{10,2048}\.eyJ[\w-]{10,2048}\.[\w-]{10,2048}"
    r"|AIza[\w-]{35})"
)
WEBHOOK = re.compile(r"(https://(?:hooks\.slack\.com/services|discord(?:app)?\.com/api/webhooks)/)[^\s\"'<>\\]{1,512}")
SECRET_OPTION = re.compile(
    r"^(--?[\w-]*(?:key|token|secret|pass|password|credential|auth)[\w-]*|[\w.]*(?:_|\.|^)(?:key|token|secret|password)[\w.]*)(?:=(.*))?$",
    re.IGNORECASE | re.DOTALL,
)
NAMES_OF_KEYS = re.compile(
    r"^(?:--)?(?:solution|tests|sort|text|id|licen[cs]e|language|origin)[-_]key|_tokens?$|tokens$|tokenizer", re.IGNORECASE
)
# Variables that say how a job was started, by their names or by how these begin.
KNOWN = frozenset(
    ("CONDA_DEFAULT_ENV", "CONDA_PREFIX", "DISPLAY", "HF_HOME", "HOME", "HOSTNAME", "LANG", "LD_LIBRARY_PATH", "LD_PRELOAD", "LOADEDMODULES",
     "LOCAL_RANK", "LOGNAME", "MALLOC_ARENA_MAX", "MASTER_ADDR", "MASTER_PORT", "MODULEPATH", "PATH", "PWD", "PYTHONHASHSEED", "PYTHONPATH", "RANK",
     "RAYON_NUM_THREADS", "SHELL", "TERM", "TMPDIR", "TOKENIZERS_PARALLELISM", "TZ", "USER", "VIRTUAL_ENV", "WORLD_SIZE", "XDG_RUNTIME_DIR")
)  # fmt: skip
KNOWN_BEGINNINGS = (
    "CUDA_", "CODEMIX_", "GLOO_", "KMP_", "LC_", "MKL_", "NCCL_", "NVTE_", "NVIDIA_", "OMP_", "OMPI_", "OPENBLAS_", "PMI", "PYTORCH_",
    "SLURM_", "TORCH_", "UCX_",
)  # fmt: skip
NEVER = re.compile(r"JWT|TOKEN(?!IZER)|SECRET|PASS|CREDENTIAL|API_?KEY|PRIVATE|AUTH|WEBHOOK|COMMENT", re.IGNORECASE)


def redact(text: str) -> str:
    """Return a text without users and passwords of addresses, signatures of queries, and keys of known forms."""
    if "://" in text:
        text = USER_OF_URL.sub(lambda found: found[0] if VARIABLE.fullmatch(found[0]) or found[0] == "git" else LEFT_OUT, text)
        text = WEBHOOK.sub(rf"\1{LEFT_OUT}", text)
    if "=" in text:
        text = SIGNED.sub(lambda found: found[0] if VARIABLE.fullmatch(found[2]) else f"{found[1]}={LEFT_OUT}", text)
    return KEYS.sub(LEFT_OUT, text)


def secret_in(text: str) -> bool:
    """Say whether a value of a recipe holds a secret that would be published with the run."""
    return redact(text) != text


def redact_words(words: Iterable[str]) -> list[str]:
    """Return the words of a command line without what follows options that are named like secrets."""
    kept, is_secret = [], False
    for word in map(str, words):
        option = None if NAMES_OF_KEYS.search(word.partition("=")[0]) else SECRET_OPTION.match(word)
        if is_secret and not word.startswith("-"):
            kept.append(LEFT_OUT)
        elif option and option[2] is not None:
            kept.append(f"{option[1]}={LEFT_OUT}")
        else:
            kept.append(redact(word))
        is_secret = bool(option and option[2] is None and word.startswith("-"))
    return kept


def kept_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that describe a job, and of all others only that they were there."""
    return {name: redact(value) if is_known(name) else "(left out)" for name, value in sorted(environment.items())}


def names_secret(name: str) -> bool:
    """Say whether a variable is called like a secret."""
    return NEVER.search(name) is not None


def is_known(name: str) -> bool:
    """Say whether a variable's value may be written down."""
    return (name in KNOWN or name.startswith(KNOWN_BEGINNINGS)) and not NEVER.search(name)


def with_variables(url: str) -> str:
    """Return an address with ${NAME} replaced by variables of the environment, where secrets of a recipe's addresses belong.

    Raises CorpusError for a variable that is not set: a server would be asked for something else, and say no.
    """
    missing = [name for name in REFERENCE.findall(url) if name not in os.environ]
    if missing:
        raise CorpusError(f"{url}: {' and '.join(missing)} of its ${{...}} {'is' if len(missing) == 1 else 'are'} not set; export it")
    return REFERENCE.sub(lambda found: os.environ[found[1]], url)
