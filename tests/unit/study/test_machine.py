"""What a machine gives to runs: whole GPUs or cores, in turn."""

from types import SimpleNamespace

from codemix_megatron.study.machine import Machine

ANY, CPU = (SimpleNamespace(parallel=SimpleNamespace(device=device)) for device in ("auto", "cpu"))


def test_runs_get_gpus_of_their_own_until_none_is_left():
    machine = Machine(cores=range(8), gpus=["0", "1", "2", "3"])
    assert machine.take("a", ANY, 2) == {"gpus": ["0", "1"]} and machine.take("b", ANY, 2) == {"gpus": ["2", "3"]}
    assert machine.take("c", ANY, 1) is None and machine.take("on-cpu", CPU, 8) == {"cores": list(range(8))}
    machine.give_back("a")
    assert machine.take("c", ANY, 1) == {"gpus": ["0"]}


def test_runs_on_cores_do_not_share_them():
    machine = Machine(cores=range(4), gpus=[])
    assert machine.take("a", ANY, 2) == {"cores": [0, 1]} and machine.take("b", CPU, 2) == {"cores": [2, 3]}
    assert machine.take("c", ANY, 1) is None


def test_run_with_more_ranks_than_the_machine_has_cores_runs_alone():
    machine = Machine(cores=range(2), gpus=[])
    assert machine.take("large", CPU, 8) == {"cores": [0, 1]} and machine.take("b", CPU, 1) is None
    machine.give_back("large")
    assert machine.take("b", CPU, 1) == {"cores": [0]}


def test_number_of_jobs_is_a_limit_and_shares_the_cores():
    machine = Machine(jobs=2, cores=range(4), gpus=[])
    assert machine.take("a", CPU, 1) == {"cores": [0, 1]} and machine.take("b", CPU, 1) == {"cores": [2, 3]}
    assert machine.take("c", CPU, 1) is None
