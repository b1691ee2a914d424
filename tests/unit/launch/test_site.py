"""Site files: all faults at once, and what they make of a script."""

import os
import runpy
import subprocess

import pytest
import yaml
from tiny_run import REPOSITORY

from codemix_megatron.errors import LaunchError, RecipeError
from codemix_megatron.launch.slurm.command_job import render_preparation, render_scoring
from codemix_megatron.launch.slurm.partition import limit_faults, limits_of
from codemix_megatron.launch.slurm.site import Site, read_site
from codemix_megatron.launch.slurm.training_job import nodes_for, render_training
from codemix_megatron.records.run_folder import RunFolder


def read(tmp_path, plain) -> Site:
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(plain))
    return read_site(path)


def test_all_faults_of_a_site_file_are_told_at_once(tmp_path):
    plain = {"partitoin": "x", "ranks_per_node": 0, "gpus_per_node": -1, "save_seconds": 3, "modules": ["cuda 12"], "srun": ["mpi=none"]}
    plain |= {"container": {"image": "x", "mounts": ["/data"]}}
    with pytest.raises(RecipeError) as raised:
        read(tmp_path, plain)
    assert [fault.split(":")[0] for fault in raised.value.faults] == [
        "partitoin", "ranks_per_node", "gpus_per_node", "save_seconds", "modules[0]", "srun[0]", "container.mounts[0]",
    ]  # fmt: skip
    assert "did you mean partition?" in str(raised.value)


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"environment": {"A": True}}, "environment.A: found True, needs text; quote it"),
        ({"environment": {"A-B": "x"}}, "environment.A-B: not the name of an environment variable"),
        ({"environment": ["A"]}, "environment: found a list of 1, needs a mapping"),
        ({"gpus_per_node": 4, "ranks_per_node": 8}, "8 ranks do not fit on 4 GPUs"),
        ({"time_limit_hours": 0.1, "save_seconds": 300}, "save_seconds: found 300, must be at least 60 and at most half the limit"),
        ({"container": {"mounts": []}}, "container.image: missing"),
    ],
)
def test_fault_of_a_site_file_is_named(tmp_path, plain, words):
    with pytest.raises(RecipeError, match="site.yaml") as raised:
        read(tmp_path, plain)
    assert words in str(raised.value)


def test_site_reaches_the_script(tmp_path):
    plain = {
        "partition": "p",
        "account": "a",
        "qos": "q",
        "gpus_per_node": 4,
        "time_limit_hours": 1.5,
        "exclude": ["n1", "n2"],
        "modules": ["m/1"],
    }
    plain |= {"environment": {"A": "x y", "B": 1}, "network_interface": "ib0", "sbatch": ["--reservation=r"], "srun": ["--mpi=none"]}
    plain |= {"container": {"image": "/i.sqsh", "mounts": ["/a:/b", "/c:/d:ro"]}, "setup": ["source x"], "batch_python": "/py"}
    script = render_training("/r.yaml", ["seed=2"], RunFolder("/runs/mine"), read(tmp_path, plain), 8)
    for words in (
        "--partition=p", "--account=a", "--qos=q", "--gres=gpu:4", "--time=90", "--exclude=n1,n2", "--nodes=2", "--ntasks-per-node=4",
        "--signal=B:USR1@300", "--requeue", "--open-mode=append", "--reservation=r", "--output=/runs/mine/launch/job-%j.log",
    ):  # fmt: skip
        assert f"#SBATCH {words}\n" in script
    for words in (
        "module load m/1",
        "export A='x y'",
        "export B=1",
        "export NCCL_SOCKET_IFNAME=ib0",
        "export GLOO_SOCKET_IFNAME=ib0",
        "source x",
    ):
        assert f"\n{words}\n" in script
    for words in ("--container-image=/i.sqsh", "--container-mounts=/a:/b,/c:/d:ro", "--mpi=none", "--ntasks=8", "exec /py -m"):
        assert words in script
    assert script.rstrip().endswith("python -m codemix_megatron train /r.yaml seed=2 --folder /runs/mine")


def test_ranks_fill_nodes_evenly():
    site = Site(ranks_per_node=4)
    assert [nodes_for(site, n) for n in (1, 4, 8, 12)] == [1, 1, 2, 3]
    with pytest.raises(LaunchError, match="6 ranks do not fill nodes of 4"):
        nodes_for(site, 6)


WRITTEN = runpy.run_path(str(REPOSITORY / "slurm" / "write.py"))["scripts"]()


@pytest.mark.parametrize("name", WRITTEN)
def test_script_in_slurm_is_what_codemix_launch_renders(name):
    assert (REPOSITORY / "slurm" / name).read_text() == WRITTEN[name], "run: python slurm/write.py"
    assert subprocess.run(["bash", "-n"], input=WRITTEN[name], capture_output=True, text=True).stderr == ""


def test_every_script_in_slurm_is_written():
    assert {path.name for path in (REPOSITORY / "slurm").glob("*.sbatch")} == set(WRITTEN)


GPUS = {"partition": "gpu", "gpus_per_node": 8, "gpu_type": "h100", "cpus_per_rank": 12, "memory_per_node": "0"}
RUN = RunFolder("/runs/mine")


def test_run_of_one_rank_asks_for_one_gpu_and_leaves_the_rest_of_its_node_to_others(tmp_path):
    script = render_training("/r.yaml", [], RUN, read(tmp_path, GPUS), 1)
    assert "#SBATCH --gres=gpu:h100:1\n" in script and "#SBATCH --mem" not in script and "--ntasks-per-node=1\n" in script
    whole = render_training("/r.yaml", [], RUN, read(tmp_path, GPUS), 16)
    assert "#SBATCH --gres=gpu:h100:8\n" in whole and "#SBATCH --mem=0\n" in whole


def test_memory_and_binding_follow_the_ranks(tmp_path):
    plain = {**GPUS, "memory_per_rank": "100G", "gpu_bind": "single:1"}
    script = render_training("/r.yaml", [], RUN, read(tmp_path, plain), 4)
    assert "#SBATCH --mem=400G\n" in script and " --gpu-bind=single:1 " in script


def test_each_kind_of_job_asks_for_its_own(tmp_path):
    plain = {**GPUS, "prepare": {"partition": "cpu", "cpus_per_rank": 4, "memory_per_node": "16G", "gpus_per_node": 0}}
    plain |= {"evaluate": {"time_limit_hours": 2}, "study_run": {"qos": "low", "partition": "spare"}}
    site = read(tmp_path, plain)
    prepared, scored = render_preparation("/r.yaml", [], RUN, site, 4)["prepare"][0], render_scoring(RUN, site)["score"][0]
    assert "--partition=cpu\n" in prepared and "--mem=16G\n" in prepared and "gres" not in prepared
    assert "--partition=gpu\n" in scored and "--time=120\n" in scored and "--gres=gpu:h100:1\n" in scored
    assert (site.for_kind("study_run").partition, site.for_kind("study_run").qos, site.partition) == ("spare", "low", "gpu")


def test_faults_of_a_kind_of_job_are_told_with_their_key(tmp_path):
    with pytest.raises(RecipeError, match=r"prepare.partition: found 'a b', must be one word"):
        read(tmp_path, {**GPUS, "prepare": {"partition": "a b"}})


def test_ranks_are_told_where_they_meet_also_where_a_site_exports_nothing(tmp_path):
    assert " --export=ALL " in render_training("/r.yaml", [], RUN, read(tmp_path, {"sbatch": ["--export=NONE"]}), 1)
    own = render_training("/r.yaml", [], RUN, read(tmp_path, {"srun": ["--export=ALL,A=1"]}), 1)
    assert own.count("--export=") == 1


GPU_PARTITION = {"PartitionName": "gpu", "MaxTime": "1-00:00:00", "MaxNodes": "4", "TotalNodes": "16", "State": "UP"}


@pytest.mark.parametrize(
    ("fields", "hours", "nodes", "said"),
    [
        ({}, 48, 1, "time_limit_hours: 48 is more than its MaxTime of 24 hours, so the job would wait for ever; set at most 24"),
        ({}, 24, 5, "5 nodes are asked for, a job may have 4 there"),
        ({"MaxNodes": "UNLIMITED"}, 24, 17, "17 nodes are asked for, a job may have 16 there"),
        ({"State": "INACTIVE"}, None, 1, "it is inactive"),
        ({}, 24, 4, None),
        ({"MaxTime": "UNLIMITED"}, 480, 1, None),
    ],
)
def test_job_that_its_partition_never_starts_is_refused(fields, hours, nodes, said):
    faults = limit_faults(limits_of({**GPU_PARTITION, **fields}), hours, nodes)
    assert [fault.startswith(said) for fault in faults] == [True] if said else faults == []


def test_spare_nodes_are_asked_for_where_there_are_some_and_a_lost_node_does_not_end_the_job(tmp_path):
    script = render_training("/r.yaml", [], RUN, read(tmp_path, {"spare_nodes": 2, "ranks_per_node": 4}), 16)
    assert "#SBATCH --nodes=4-6\n" in script and "#SBATCH --no-kill\n" in script
    assert "#SBATCH --cpus-per-task=4\n" in script and "#SBATCH --ntasks-per-node" not in script and "--ntasks-per-node=4" in script
    assert "--start-again-inside --" in script and "srun --nodes=4 --ntasks=16" in script
    plain = render_training("/r.yaml", [], RUN, read(tmp_path, {"ranks_per_node": 4}), 16)
    assert "#SBATCH --nodes=4\n" in plain and "--no-kill" not in plain and "--start-again-inside" not in plain


APPTAINER = {"image": "/images/codemix.sif", "binds": ["/shared", "/a:/b:ro"], "workdir": "/shared/work", "options": ["--ipc"]}


def test_ranks_run_in_an_image_of_apptainer(tmp_path):
    script = render_training("/r.yaml", [], RUN, read(tmp_path, {**GPUS, "apptainer": APPTAINER}), 8)
    last = script.rstrip().splitlines()[-1].strip()
    inside = "apptainer exec --nv --bind /shared --bind /a:/b:ro --pwd /shared/work --no-home --ipc /images/codemix.sif"
    assert last == f"{inside} python -m codemix_megatron train /r.yaml --folder /runs/mine"
    assert "--container" not in script


def test_image_of_apptainer_sees_no_gpu_where_a_job_has_none_and_commands_leave_their_step_first(tmp_path):
    plain = {"apptainer": {"image": "docker://x/y:1", "program": "singularity", "writable": True, "mount_home": True}}
    script = render_scoring(RUN, read(tmp_path, plain))["score"][0]
    assert "env -u SLURM_STEP_ID singularity exec --writable-tmpfs docker://x/y:1 python -m codemix_megatron export" in script


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"apptainer": APPTAINER, "container": {"image": "x"}}, "container and apptainer: give one of them"),
        ({"apptainer": {**APPTAINER, "image": "-x"}}, "apptainer.image: found '-x', must be one word"),
        ({"apptainer": {**APPTAINER, "image": "a b"}}, "apptainer.image: found 'a b', must be one word"),
        ({"apptainer": {**APPTAINER, "binds": ["/a:/b:ro:x"]}}, "apptainer.binds[0]: found '/a:/b:ro:x'"),
        ({"apptainer": {**APPTAINER, "options": ["nv"]}}, "apptainer.options[0]: found 'nv'"),
        ({"apptainer": {"binds": []}}, "apptainer.image: missing"),
        ({"stage_directory": "scratch"}, "stage_directory: found 'scratch', must be an absolute path"),
        ({"export": {"time_limit_hours": 0}}, "export.time_limit_hours: found 0, must be above 0"),
        ({"environment": {"HF_TOKEN": "hf"}}, "environment.HF_TOKEN: is a secret, which would be written into the script of every run"),
        ({"environment": {"A": "https://u:p@host/x"}}, "environment.A: is a secret"),
        ({"setup": ["export MY_API_KEY=abc"]}, "setup[0]: holds a secret"),
        ({"sbatch": ["--export=ALL,WANDB_TOKEN=abc"]}, "sbatch[0]: holds a secret"),
    ],
)
def test_fault_of_images_exports_and_secrets_is_named(tmp_path, plain, said):
    with pytest.raises(RecipeError) as raised:
        read(tmp_path, plain)
    assert said in str(raised.value)


def test_secret_that_a_site_only_refers_to_is_none(tmp_path):
    plain = {
        "environment": {"TOKENIZERS_PARALLELISM": "false", "SSH_AUTH_SOCK": "/run/x"},
        "setup": ["export HF_TOKEN=$(cat ~/.token)", "A=$HF_TOKEN b"],
    }
    assert read(tmp_path, plain).setup == tuple(plain["setup"])


def test_export_has_a_job_of_its_own_where_the_site_has_a_block_for_it(tmp_path):
    plain = {**GPUS, "export": {"partition": "cpu", "memory_per_node": "64G"}, "evaluate": {"time_limit_hours": 2}}
    scripts = render_scoring(RUN, read(tmp_path, plain), ("--suite", "small"))
    assert list(scripts) == ["export", "score"]
    export, score = (text for text, _ in scripts.values())
    assert "--partition=cpu\n" in export and "--mem=64G\n" in export and "gres" not in export and "codemix_megatron evaluate" not in export
    assert "--partition=gpu\n" in score and "--gres=gpu:h100:1\n" in score and "--time=120\n" in score
    assert "codemix_megatron export" not in score and score.rstrip().endswith("codemix_megatron evaluate /runs/mine --suite small")
    assert list(render_scoring(RUN, read(tmp_path, GPUS))) == ["score"]


def test_staged_environment_is_named_for_each_node(tmp_path):
    site = read(tmp_path, {"stage_directory": "/scratch"})
    script = render_training("/r.yaml", [], RUN, site, 1, archive=tmp_path / "0123.tar")
    assert f" --stage {tmp_path}/0123.tar --stage-to /scratch/codemix-{os.geteuid()}/0123 -- " in script
    assert "--stage" not in render_training("/r.yaml", [], RUN, site, 1)


def test_log_is_where_it_is_looked_for_though_its_folder_has_a_percent_sign(tmp_path):
    """Of --output Slurm takes %a, %u and the like for numbers and names of its own, and %% for a percent sign (sbatch(1), filename pattern)."""
    script = render_training("r.yaml", [], RunFolder("/runs/code-25%a"), Site(), 1)
    assert "--output=/runs/code-25%%a/launch/job-%j.log\n" in script and "--run /runs/code-25%a " in script
