"""A process knows its placement among ranks from what each launcher sets; variables below were printed by the launchers named."""

import pytest

from codemix_megatron.errors import LaunchError
from codemix_megatron.placement import ALONE, Placement, find_placement, meeting_address, threads_of_rank

OPEN_MPI = {  # mpirun (Open MPI) 4.1.4, -np 2, second process
    "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_MCA_ess_base_jobid": "1281163265", "PMIX_NAMESPACE": "1281163265", "PMIX_RANK": "1",
}  # fmt: skip
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2", "PMI_FD": "9"}  # mpiexec.hydra 4.0.2
MVAPICH = {"MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_LOCAL_RANK": "1", "MV2_COMM_WORLD_LOCAL_SIZE": "2"}
DAEMON = {  # mpirun's daemon on the second node of a job, which srun started, and whose variables its ranks inherit
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_LOCALID": "0",
}  # fmt: skip
STEP = {  # srun --ntasks=12 over three nodes, on the second one
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "6", "SLURM_NTASKS": "12", "SLURM_STEP_NUM_TASKS": "12",
    "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "5(x2),2", "MASTER_ADDR": "node1", "MASTER_PORT": "20001",
}  # fmt: skip


@pytest.mark.parametrize("variables", [OPEN_MPI, MPICH, MVAPICH, {**DAEMON, **OPEN_MPI}, {**DAEMON, **MPICH}])
def test_ranks_that_mpirun_started_know_their_placement(variables):
    placement = find_placement(variables)
    assert (placement.rank, placement.size, placement.local_rank, placement.local_size) == (1, 2, 1, 2)


@pytest.mark.parametrize("more", [{}, {"PMI_RANK": "6", "PMI_SIZE": "12"}, {"PMIX_RANK": "6", "PMIX_NAMESPACE": "slurm.pmix.7.0"}])
def test_ranks_of_srun_know_their_placement_whichever_mpi_it_offers(more):
    assert find_placement({**STEP, **more}) == Placement(6, 12, 1, 5, "srun")


def test_tasks_of_each_node_are_counted_on_their_own():
    assert find_placement({**STEP, "SLURM_NODEID": "2"}).local_size == 2


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SLURM_JOB_ID": "7"},  # a batch script, or salloc's shell
        {**DAEMON, "SLURM_PTY_PORT": "40000", "SLURM_PTY_WIN_COL": "80"},  # srun --pty bash
        {**STEP, "SLURM_PTY_PORT": "40000"},
        {**DAEMON, "SLURM_STEP_ID": "4294967291"},  # salloc's interactive step
        DAEMON,  # srun codemix train, one task
    ],
)
def test_command_in_a_shell_of_slurm_is_no_rank(variables):
    assert find_placement(variables) is None


def test_single_task_that_our_batch_script_started_is_a_rank():
    assert find_placement({**DAEMON, "CODEMIX_BATCH": "7.0"}) == Placement(0, 1, 0, 1, "srun")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RANK": "0"}, "RANK is set, so this is one of several ranks, and WORLD_SIZE is not"),
        ({"PMI_RANK": "1"}, "PMI_RANK is set, so this is one of several ranks, and PMI_SIZE is not"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK: found 'x', must be a whole number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "ranks go from 0 to 1"),
        ({"PMIX_RANK": "1", "PMIX_NAMESPACE": "prterun-host-42@1"}, "nothing says how many ranks there are"),
        ({k: v for k, v in STEP.items() if not k.startswith("MASTER")}, "srun --export=ALL"),
        ({**MPICH, "MPI_LOCALRANKID": "", "MASTER_ADDR": "node1"}, "MPI_LOCALRANKID: found ''"),
    ],
)
def test_half_a_place_is_refused_with_what_is_missing(variables, said):
    with pytest.raises(LaunchError, match=said.replace("$", r"\$")) as refused:
        find_placement(variables)
    assert refused.value.exit_code == 2


def test_ranks_of_one_mpirun_on_one_machine_meet_without_being_told_where():
    first, second = ({**OPEN_MPI, "OMPI_COMM_WORLD_RANK": rank} for rank in "01")
    assert meeting_address(find_placement(first), first) == meeting_address(find_placement(second), second)
    other = {**OPEN_MPI, "PMIX_NAMESPACE": "1281163266"}
    assert meeting_address(find_placement(other), other) != meeting_address(find_placement(first), first)


def test_ranks_of_mpirun_on_several_machines_need_to_be_told():
    spread = {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
    with pytest.raises(LaunchError, match="mpirun -x MASTER_ADDR -x MASTER_PORT"):
        meeting_address(find_placement(spread), spread)
    told = {**spread, "MASTER_ADDR": "node1", "MASTER_PORT": "20000"}
    assert meeting_address(find_placement(told), told) == ("node1", 20000)


@pytest.mark.parametrize(
    ("cores", "placement", "variables", "threads"),
    [
        (4, Placement(3, 8, 3, 8, "srun"), {"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "32"}, 4),  # bound by TaskPlugin
        (32, Placement(3, 8, 3, 8, "srun"), {"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "32"}, 4),  # not bound
        (4, Placement(3, 8, 3, 8, "srun"), {"SLURM_CPUS_ON_NODE": "32"}, 4),
        (32, Placement(3, 8, 3, 8, "srun"), {"SLURM_CPUS_ON_NODE": "32"}, 4),
        (2, Placement(3, 8, 3, 8, "srun"), {"SLURM_CPUS_PER_TASK": "4"}, 2),
        (16, Placement(3, 8, 3, 8, "torchrun"), {}, 2),
        (3, Placement(3, 8, 3, 8, "torchrun"), {}, 1),
        (6, ALONE, {}, 6),
    ],
)
def test_rank_computes_with_the_cores_it_was_given(cores, placement, variables, threads):
    assert threads_of_rank(cores, placement, variables) == threads


def test_rank_that_mpirun_bound_to_cores_of_its_own_uses_all_of_them(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    placement = Placement(0, 4, 0, 4, "Open MPI")
    assert [threads_of_rank(cores, placement, {}) for cores in (4, 16, 1)] == [4, 4, 1]


@pytest.mark.parametrize(("address", "local_size"), [("run-master-0", 1), ("10.0.0.7", 1), ("127.0.0.1", 4), ("localhost", 4)])
def test_pod_of_the_training_operator_is_a_machine_of_its_own(address, local_size):
    """It sets these four alone; several ranks of one machine have LOCAL_RANK from whatever started them."""
    set_there = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": address, "MASTER_PORT": "23456"}
    placement = find_placement(set_there)
    assert (placement.rank, placement.size, placement.local_rank, placement.local_size) == (3, 4, 0, local_size)
    assert find_placement({**set_there, "LOCAL_RANK": "3"}).local_size == 4
