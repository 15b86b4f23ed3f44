"""The machines of a run are recorded once each, even after damage to the file."""

from pathlib import Path

from infra.process.machines import describe_machine_with, read_machines, record_machine

CPU = {"Alive": True, "Resources": {"CPU": 4.0, "memory": 1e9, "node:127.0.0.1": 1.0}}
GPU = {"Alive": True, "Resources": {"CPU": 16.0, "GPU": 8.0, "accelerator_type:H100": 1.0}}
DEAD = {"Alive": False, "Resources": {}}


def test_each_machine_is_kept_once(tmp_path: Path) -> None:
    here = describe_machine_with([CPU], is_local=True)
    cluster = describe_machine_with([GPU], is_local=False)
    for machine in (here, here, cluster, here):
        record_machine(machine, tmp_path)
    assert read_machines(tmp_path) == (here, cluster)


def test_a_description_lists_gpus_nodes_and_packages(tmp_path: Path) -> None:
    told = dict(describe_machine_with([CPU], is_local=True).lines)
    assert told["GPUs of workers"] == "none"
    assert "torch " in told["packages"]
    told = dict(describe_machine_with([GPU, GPU, CPU, DEAD], is_local=False).lines)
    assert told["Ray cluster"] == "2 x (16 CPUs, 8 x H100), 1 x (4 CPUs)"
    assert dict(describe_machine_with([GPU], is_local=True).lines)["GPUs of workers"] == "8 x H100"


def test_a_file_that_is_cut_stops_nothing(tmp_path: Path) -> None:
    record_machine(describe_machine_with([CPU], is_local=True), tmp_path)
    (place,) = tmp_path.iterdir()
    place.write_bytes(place.read_bytes()[:40])
    assert read_machines(tmp_path) == ()
    record_machine(describe_machine_with([GPU], is_local=True), tmp_path)
    assert len(read_machines(tmp_path)) == 1
