"""The page of yields: what became of every solution asked for, by reason and by topic, and what it cost."""

__all__ = ["yields_page"]


def yields_page(manifest: dict) -> str:
    """Return the manifest of a synthesis as Markdown."""
    asked, kept = manifest["solutions_asked"], manifest["solutions"].get("kept", 0)
    tokens = manifest["prompt_tokens"] + manifest["completion_tokens"]
    lines = [
        f"# Synthetic code by {manifest['teacher']}",
        "",
        f"{kept:,} of {asked:,} solutions kept ({share(kept, asked)}), of {manifest['problems_done']:,} of {manifest['problems']:,} problems;"
        f" {manifest['problems_contaminated']:,} problems overlap with an evaluation set and were not asked about.",
        "",
        f"{tokens:,} tokens ({manifest['prompt_tokens']:,} read, {manifest['completion_tokens']:,} written)"
        + (f", {tokens / kept:,.0f} for each document kept." if kept else "."),
        "",
        *table(["solutions", "count", "share"], [[r, f"{n:,}", share(n, asked)] for r, n in by_count(manifest["solutions"])]),
        "",
        *table(["tests left out", "count"], [[r, f"{n:,}"] for r, n in by_count(manifest["tests_dropped"])]),
        "",
        *table(
            ["topic", "problems", "with a solution", "solutions", "kept", "yield"],
            [
                [
                    topic,
                    *(f"{c.get(key, 0):,}" for key in ("problems", "solved", "solutions", "kept")),
                    share(c.get("kept", 0), c["solutions"]),
                ]
                for topic, c in manifest["topics"].items()
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def share(part: int, whole: int) -> str:
    """Return a percentage."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def by_count(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Return reasons, the most frequent first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def table(headings: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table."""
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in (headings, ["---"] * len(headings), *escaped)]
