"""Write the golden losses again; look at the difference before committing it."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import yaml
from tiny_run import RECIPE, Tiny, make_documents


def main() -> None:
    """Train the tiny recipe on one rank and keep its losses."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = Tiny(Path(folder))
        make_documents(tiny.folder)
        tiny.recipe.write_text(yaml.safe_dump(RECIPE, sort_keys=False))
        for done in (tiny.codemix("prepare", tiny.recipe), tiny.train("golden", in_full=True)):
            sys.stderr.write(done.stderr)
            done.check_returncode()
        lines = ["# nats per token, steps 1 to 20 of tests/tiny_run.py", *(f"{loss:.6f}" for loss in tiny.losses("golden"))]
    (Path(__file__).parent / "tiny_losses.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
