"""Readers and filters one by one, on the code beside the project or on a folder of JSON lines, in one run.

    python benchmarks/filters.py [--documents ../shared/data/code/web_code.jsonl] [--against ../shared/data/eval/*.jsonl]

Megabytes per CPU-second, the best of three passes, beside reading alone and beside looking for one string in every text
(what no filter can beat); the last line is JSON. Targets: all filters that need no word hashes, together, at least 60 MB per
CPU-second, which is the speed preparing goes at; decontamination and near duplicates at least 15 each.
"""

import argparse
import json
import time
from pathlib import Path

from codemix_megatron.filters.filters import load_filters
from codemix_megatron.filters.near_duplicates import document_signature
from codemix_megatron.readers.documents import BadDocument, Document
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.recipe.filtering import Decontamination, FilterSpec, LineLength, NearDuplicates
from codemix_megatron.recipe.schema import CorpusSpec

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
PASSES = 3
TARGETS = {"quick_filters": 60, "word_filters": 15}  # MB per CPU-second
ONE_BY_ONE = {
    "languages": {"languages": ("paper_code",)},
    "licences": {"licences": ("permissive",)},
    "generated_by": {"generated_by": True},
    "hexadecimal": {"hexadecimal": True},
    "max_floats": {"max_floats": 1000},
    "top_level_domains": {"top_level_domains": True},
    "line_length": {"line_length": LineLength()},
    "alphabet_share": {"alphabet_share": 0.25},
    "e-mail": {"personal_data": ("email",)},
    "ip": {"personal_data": ("ip",)},
    "key": {"personal_data": ("key",)},
}
ALL_QUICK = {
    "presets": ("paper", "starcoder"), "languages": ("paper_code",), "licences": ("permissive",), "min_characters": 10,
    "personal_data": ("email", "ip", "key"),
}  # fmt: skip


def main() -> None:
    """Read the documents, time every filter, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", default=str(SHARED / "code/web_code.jsonl"), help="JSON lines")
    parser.add_argument("--against", default=str(SHARED / "eval/*.jsonl"), help="evaluation sets")
    arguments = parser.parse_args()
    inputs = find_inputs(CorpusSpec(kind="code", documents=(arguments.documents,)), where="--documents")
    documents = [document for file in inputs for document in file.read() if isinstance(document, Document)]
    found = {
        "reading JSON lines": fastest(lambda: [0 for file in inputs for _ in file.read()], sum(file.num_bytes for file in inputs)),
        **time_filters(documents, arguments.against),
    }
    for name, speed in found.items():
        print(f"{name:24} {speed:10,.0f} MB per CPU-second")
    quick, slow = found["all but the last two"], min(found["decontamination"], found["near duplicates"])
    print(
        json.dumps(
            {
                "mb_per_cpu_second": {name: round(speed, 1) for name, speed in found.items()},
                "quick_filters_beside_one_search": round(quick / found["one search"], 3),
                "targets": TARGETS,
                "met": quick >= TARGETS["quick_filters"] and slow >= TARGETS["word_filters"],
            }
        )
    )


def time_filters(documents: list[Document], against: str) -> dict[str, float]:
    """Return MB per CPU-second of each filter, of the quick ones together, and of those that hash words."""
    num_bytes = sum(len(document.text.encode()) for document in documents)
    found = {"one search": fastest(lambda: ["\x01nowhere" in document.text for document in documents], num_bytes)}
    settings = {
        **ONE_BY_ONE,
        "all but the last two": ALL_QUICK,
        "decontamination": {"decontamination": Decontamination(against=(against,))},
    }
    for name, values in settings.items():
        filters = load_filters(FilterSpec(**values))
        dropped = sum(isinstance(filters.apply(document), BadDocument) for document in documents)
        found[name] = fastest(lambda filters=filters: [filters.apply(document) for document in documents], num_bytes)
        print(f"{name}: drops {dropped} of {len(documents)}")
    spec = NearDuplicates()
    found["near duplicates"] = fastest(lambda: [document_signature(document.text, spec) for document in documents], num_bytes)
    return found


def fastest(work, num_bytes: int) -> float:
    """Return MB per CPU-second of the best of three passes."""
    seconds = []
    for _ in range(PASSES):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return num_bytes / 1e6 / max(min(seconds), 1e-9)


if __name__ == "__main__":
    main()
