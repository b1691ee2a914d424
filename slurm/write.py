"""Write the scripts beside this file: what `codemix launch` renders for the site files in sites/, with /data/... for your paths.

They are for reading, and for sites where jobs are submitted by hand: put your own paths in and `sbatch` them.
"""

from pathlib import Path

from codemix_megatron.launch.slurm.command_job import render_preparation, render_scoring
from codemix_megatron.launch.slurm.site import read_site
from codemix_megatron.launch.slurm.training_job import render_training
from codemix_megatron.records.run_folder import RunFolder

HERE = Path(__file__).parent
RECIPE, RUN = "/data/recipe.yaml", RunFolder("/data/runs/mine")


def scripts() -> dict[str, str]:
    """Return file name -> text."""
    cpu, gpu, apptainer = (read_site(HERE / "sites" / f"{name}.yaml") for name in ("cpu", "gpu-pyxis", "gpu-apptainer"))
    prepared = render_preparation(RECIPE, [], RUN, cpu, 4)
    return {
        "train-one-node.sbatch": render_training(RECIPE, [], RUN, cpu, 8),
        "train-many-nodes.sbatch": render_training(RECIPE, [], RUN, cpu, 32),
        "train-gpu-pyxis.sbatch": render_training(RECIPE, [], RUN, gpu, 32),
        "train-gpu-apptainer.sbatch": render_training(RECIPE, [], RUN, apptainer, 32),
        "prepare-array.sbatch": prepared["prepare"][0],
        "merge.sbatch": prepared["merge"][0],
        "export-and-evaluate.sbatch": render_scoring(RUN, cpu)["score"][0],
        "export-and-evaluate-gpu-pyxis.sbatch": render_scoring(RUN, gpu)["score"][0],
        "export-and-evaluate-gpu-apptainer.sbatch": render_scoring(RUN, apptainer)["score"][0],
    }


if __name__ == "__main__":
    for name, text in scripts().items():
        (HERE / name).write_text(text)
