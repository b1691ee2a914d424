"""A site file out of what Slurm says: read back by the reader of site files, with numbers that a job can have."""

import pytest

from codemix_megatron.launch.slurm.site import read_site
from codemix_megatron.launch.slurm.survey import Cluster, choose_partition, read_partitions, read_settings, site_text

# sinfo --noheader --exact --format=%P|%D|%c|%m|%G|%l|%a, formats as in sinfo(1)
SINFO = """\
batch*|100|128|257000|(null)|2-00:00:00|up
gpu|64|96|1031000|gpu:h100:8(S:0-1)|1-00:00:00|up
mixed|4|64|500000|gpu:a100:4|12:00:00|up
mixed|2|32|250000|gpu:v100:2|12:00:00|up
debug|2|128|257000|(null)|30:00|up
old|8|16|64000|(null)|infinite|inact
"""
SETTINGS = (
    "Configuration data as of 2026-11-28\nClusterName             = hal\nJobRequeue              = 0\nSLURM_VERSION           = 23.11.4\n"
)


@pytest.fixture
def cluster() -> Cluster:
    """A cluster with GPU and CPU partitions."""
    return Cluster(read_settings(SETTINGS), read_partitions(SINFO))


def test_partitions_are_read_with_what_a_job_can_have_on_each_of_their_nodes(cluster):
    found = {p.name: (p.nodes, p.cpus, p.gpus, p.gpu_type, p.most_seconds / 3600) for p in cluster.partitions}
    assert found == {
        "batch": (100, 128, 0, None, 48.0),
        "gpu": (64, 96, 8, "h100", 24.0),
        "mixed": (6, 32, 2, None, 12.0),  # two kinds of node
        "debug": (2, 128, 0, None, 0.5),
        "old": (8, 16, 0, None, float("inf")),
    }


@pytest.mark.parametrize(("wanted", "chosen"), [(None, "gpu"), ("debug", "debug"), ("nowhere", None)])
def test_partition_with_the_most_gpus_is_chosen_unless_another_is_asked_for(cluster, wanted, chosen):
    found = choose_partition(cluster, wanted)
    assert (found.name if found else None) == chosen


@pytest.mark.parametrize("name", ["batch", "gpu", "mixed", "debug", "old"])
def test_what_is_written_is_a_valid_site(cluster, tmp_path, name):
    path = tmp_path / "site.yaml"
    path.write_text(site_text(cluster, choose_partition(cluster, name)))
    site = read_site(path)
    there = choose_partition(cluster, name)
    assert site.partition == name and site.cpus_per_rank * site.ranks_on_a_node <= there.cpus
    assert int(site.memory_per_rank.rstrip("M")) * site.ranks_on_a_node <= there.memory_mib
    assert site.time_limit_hours is None or site.time_limit_hours * 3600 == there.most_seconds


def test_jobs_that_need_no_gpu_go_where_there_is_none(cluster, tmp_path):
    text = site_text(cluster, choose_partition(cluster))
    assert "prepare: {partition: batch, gpus_per_node: 0" in text and "gpu_type: h100" in text
    assert "Jobs are not queued again by default" in text and "# gpu: 64 nodes of 96 CPUs, 8 GPUs (h100), at most 24 hours" in text
