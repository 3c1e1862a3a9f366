"""`xlam launch`: what it prints, what it refuses, and what it starts."""

import json
import re
import stat

import pytest
import yaml

CONFIG = "configs/demo/sft.yaml"
WIDE = ("batch.rows=64", "mesh.fsdp=-1")


@pytest.fixture
def here(world, at):
    at(world)
    return world


def test_a_dry_run_prints_the_script_and_the_command(here, xlam, tmp_path):
    report = tmp_path / "r.json"
    got = xlam("launch", "slurm", CONFIG, *WIDE, "--nodes", 4, "--dry-run", "--json", report)
    assert got.code == 0
    assert "#SBATCH --requeue" in got.out and "sbatch --job-name=demo-sft --nodes=4" in got.out
    told = json.loads(report.read_text())
    assert told["command"][-3:] == [CONFIG, *WIDE] and not told["started"]
    assert told["text"].startswith("#!/usr/bin/env bash")


def test_slurm_gives_notice_by_what_saves_took(here, xlam, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    command = ("launch", "slurm", CONFIG, *WIDE, f"out={run}", "--dry-run")

    def notice(events, rows=()):
        (run / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
        (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        got = xlam(*command)
        assert got.code == 0
        found = re.findall(r"--signal=B:USR1@(\d+)", got.out.partition("run by:")[2])
        assert bool(found) == ("notice before the time limit" in got.err)
        return found

    saved = {"event": "complete", "step": 1}
    assert notice([]) == notice([saved]) == []  # nothing measured: the script's own 180
    assert notice([{**saved, "seconds": 2.0}]) == ["60"]
    slow = [{**saved, "seconds": s} for s in (900, *[20] * 9, 100.5)]  # the first is eleven saves ago
    assert notice(slow, [{"step": 9, "loss": 1, "step_seconds": 30.2}]) == ["332"]
    monkeypatch.setenv("SBATCH_SIGNAL", "B:USR1@600")
    assert notice(slow) == []


def test_a_manifest_can_be_piped_into_a_file(here, xlam, capfd, monkeypatch):
    import sys

    from xlam_jax.cli import main as command

    monkeypatch.setattr(sys, "argv", ["xlam", "launch", "k8s", CONFIG, *WIDE, "--dry-run"])
    with pytest.raises(SystemExit):
        command.main()
    kinds = [document["kind"] for document in yaml.safe_load_all(capfd.readouterr().out)]
    assert kinds == ["ConfigMap", "JobSet"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("slurm", CONFIG, "optim.lrr=1"), "unknown key 'optim.lrr'"),
        (("slurm", "configs/none.yaml"), "config file not found"),
        (("slurm", CONFIG, "batch.rows=6", "--nodes", 4), "6 rows a step do not split over 4 nodes"),
        (("slurm", CONFIG, "batch.rows=7"), "7 rows a step do not split over 2 nodes"),
        (
            ("k8s", CONFIG, "batch.rows=16", "--nodes", 4),
            "16 rows a step do not split over 4 nodes of 8 devices",
        ),
        (("slurm", CONFIG, *WIDE, "--kind", "jobset"), "slurm has no kind 'jobset'"),
        (("k8s", CONFIG, *WIDE, "--name", "My_job"), "'My_job' is no name for a job"),
        (("local", CONFIG, "--image", "x"), "local (processes) runs no container"),
        (("slurm", CONFIG, *WIDE, "--secret", "x", "--gpu-type", "y"), "where: --gpu-type, --secret"),
        (("tpu", CONFIG, *WIDE, "--kind", "jobset", "--nodes", 2), "2 hosts of 4 chips are no slice of 4x4"),
        (("tpu", CONFIG, "--nodes", 2), "a TPU VM has the hosts it was made with"),
        (("slurm", CONFIG, "seed=%b"), "not valid YAML"),
    ],
)
def test_what_would_fail_later_is_refused_now(here, xlam, args, message):
    got = xlam("launch", *args, "--dry-run")
    assert got.code == 2 and message in got.err, got.err


@pytest.mark.parametrize(("target", "program"), [("slurm", "sbatch"), ("k8s", "kubectl"), ("tpu", "gcloud")])
def test_a_missing_program_is_named(here, xlam, monkeypatch, tmp_path, target, program):
    monkeypatch.setenv("PATH", str(tmp_path))
    got = xlam("launch", target, CONFIG, *WIDE)
    assert got.code == 2 and f"{program} is not installed here" in got.err


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """Puts a program of this name on the path that notes its arguments and input, and ends with a status."""

    def make(name, status=0):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/args\n'
            f"[ -t 0 ] || cat > {tmp_path}/input\nexit {status}\n"
        )
        program.chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return tmp_path

    return make


def test_kubectl_gets_the_manifest(here, xlam, stub):
    noted = stub("kubectl")  # which knows of no workload
    got = xlam("launch", "k8s", CONFIG, *WIDE, "--nodes", 8, "--namespace", "ml")
    assert got.code == 0 and "was started" in got.err
    assert (noted / "args").read_text().split() == ["--namespace=ml", "apply", "--filename=-"]
    jobset = list(yaml.safe_load_all((noted / "input").read_text()))[-1]
    assert jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["completions"] == 8


def test_a_failed_submission_fails_the_command(here, xlam, stub):
    noted = stub("sbatch", status=3)
    got = xlam("launch", "slurm", CONFIG, *WIDE, "seed=%a")
    assert got.code == 1 and "ended with status 3" in got.err
    assert (noted / "args").read_text().split()[-1] == "seed=%a"


def test_every_word_reaches_the_hosts_of_a_tpu(here, xlam, stub, monkeypatch):
    noted = stub("gcloud")
    monkeypatch.setenv("TPU_NAME", "pod")
    monkeypatch.setenv("TPU_ZONE", "z-1")
    assert xlam("launch", "tpu", CONFIG, "out=gs://b/a run; x").code == 0
    command = (noted / "args").read_text().splitlines()[-1]
    assert command.startswith("cd xlam-jax && launch/tpu/host.sh --detach configs/demo/sft.yaml")
    assert command.endswith(r"out=gs://b/a\ run\;\ x")
