"""Manifests with their places filled in: names, networks, options, and what kubectl is asked to do."""

import difflib
import json
import re
import sys

import pytest
import yaml

from tests.launch.test_launch_files import CONFIG, LAUNCH, OVERLAYS, documents, errors_of, pod_of, validate
from xlam_jax import launchers
from xlam_jax.errors import InputError
from xlam_jax.manifests import NETWORKS, Options

__all__ = ["validate"]  # a fixture
KINDS = [("k8s", "jobset"), ("k8s", "job"), ("tpu", "jobset")]


def launch(
    *overrides, target="k8s", kind="jobset", out="runs/a", nodes=None, name="", config=CONFIG, **options
):
    return launchers.launch(
        target, config, overrides, nodes=nodes, kind=kind, name=name, out=out, options=Options(**options)
    )


@pytest.mark.parametrize("kind", ["jobset", "job"])
def test_filling_in_changes_every_place(kind):
    plan = launch("out=$(HOME)/x$$y$", "seed=3", nodes=5, kind=kind, name="mine", image="r/x:1")
    found, job, pod = pod_of(plan.text)
    config = found.pop("ConfigMap")
    assert {d["metadata"]["name"] for d in found.values()} == {"mine"}
    assert config["data"]["config.yaml"] == CONFIG.read_text() and config["immutable"]
    (container,) = pod["containers"]
    env = {v["name"]: v.get("value") for v in container["env"]}
    first = "mine-train-0-0.mine" if kind == "jobset" else "mine-0.mine"
    assert (env["XLAM_COORDINATOR"], env["XLAM_NUM_PROCESSES"]) == (f"{first}:61500", "5")
    assert job["completions"] == job["parallelism"] == 5 and container["image"] == "r/x:1"
    assert container["command"] == ["xlam", "train", "/etc/xlam/config.yaml"]
    assert container["args"] == ["out=$$(HOME)/x$$$$y$$", "seed=3"]  # nothing that Kubernetes would replace
    (volume,) = [v for v in pod["volumes"] if v["name"] == "config"]
    assert volume["configMap"] == {"name": config["metadata"]["name"]}
    if kind == "job":
        assert found["Service"]["spec"]["selector"] == {"batch.kubernetes.io/job-name": "mine"}
        assert pod["subdomain"] == "mine"
    else:
        assert found["JobSet"]["spec"]["network"]["subdomain"] == "mine"
    # Without a choice nothing but names, labels, the config and the arguments differs from the file.
    ours = launch(kind=kind, name="xlam").text
    theirs = documents((LAUNCH / f"k8s/{kind}.yaml").read_text())
    ours = documents(ours.replace(documents(ours)["ConfigMap"]["metadata"]["name"], "xlam"))
    for document in ours.values():
        assert document["metadata"].pop("labels")["app.kubernetes.io/instance"] == "xlam"
        document["metadata"].pop("annotations", None)
    for document in theirs.values():
        document["metadata"].pop("labels")
    ours["ConfigMap"]["data"] = theirs["ConfigMap"]["data"]
    assert ours == theirs


@pytest.mark.parametrize(("target", "kind"), KINDS)
def test_two_outs_have_no_name_in_common(target, kind):
    """The rendered difference: names, and what is made of them."""
    one, two = (launch(f"out={out}", target=target, kind=kind, out=out) for out in ("runs/a", "runs/b"))
    names = [{(d["kind"], d["metadata"]["name"]) for d in yaml.safe_load_all(p.text)} for p in (one, two)]
    assert not names[0] & names[1] and one.manifest.name != two.manifest.name
    lines = difflib.unified_diff(one.text.splitlines(), two.text.splitlines(), n=0, lineterm="")
    changed = [line[1:] for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert changed
    for line in changed:
        words = (one.manifest.name, two.manifest.name, "out=runs/", "xlam-jax/content")
        assert any(word in line for word in words), line


def test_names_follow_out_and_content(tmp_path):
    same = launch(), launch()
    assert same[0].text == same[1].text
    config = lambda plan: documents(plan.text)["ConfigMap"]["metadata"]["name"]  # noqa: E731
    edited = tmp_path / "demo" / "sft.yaml"
    edited.parent.mkdir()
    edited.write_text(CONFIG.read_text() + "\n# edited\n")
    other = launch(config=edited)
    assert other.manifest.name == same[0].manifest.name and config(other) != config(same[0])
    long = tmp_path / ("x" * 70) / "sft.yaml"
    long.parent.mkdir()
    long.write_text(CONFIG.read_text())
    assert len(launch(config=long).manifest.name) == 40


@pytest.mark.parametrize(("kind", "network"), [("jobset", n) for n in NETWORKS] + [("job", "efa")])
def test_networks_fit_the_schemas_and_what_they_need_is_there(kind, network, validate):
    plan = launch(kind=kind, network=network, nodes=2, gpu_type="mine")
    for document in documents(plan.text).values():
        errors_of(document, validate)
    _, _, pod = pod_of(plan.text)
    assert list(pod["nodeSelector"].values()) == ["mine"]
    (train,) = pod["containers"]
    every = [*pod["containers"], *pod.get("initContainers", [])]
    mounted = {m["name"] for c in every for m in c["volumeMounts"]}
    assert mounted == {v["name"] for v in pod["volumes"]} and "shm" in mounted
    security = train["securityContext"]
    # The API server refuses both together; the schemas do not.
    assert not (security.get("privileged") and not security["allowPrivilegeEscalation"])
    if "add" in security["capabilities"]:  # reaches processes of root only
        assert pod["securityContext"]["runAsUser"] == 0 and not pod["securityContext"]["runAsNonRoot"]
    assert bool(pod.get("hostNetwork")) == (pod.get("dnsPolicy") == "ClusterFirstWithHostNet")
    limits = train["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == 8
    env = {v["name"]: v.get("value") for v in train["env"]}
    if network == "infiniband":
        assert any(name.startswith("rdma/") for name in limits)
    if network == "efa":
        assert limits["vpc.amazonaws.com/efa"] == 32 and env["FI_PROVIDER"] == "efa"
    assert train["command"][-3:] == ["xlam", "train", "/etc/xlam/config.yaml"]


def test_every_overlay_is_a_network():
    assert {p.stem for p in OVERLAYS} == set(NETWORKS)


def test_options_reach_their_places():
    plan = launch(
        gpus=4, gpu_type="NVIDIA-H200", namespace="ml", queue="gpus", claim="mine", secrets=("hub", "wandb")
    )
    found, _, pod = pod_of(plan.text)
    (train,) = pod["containers"]
    assert train["resources"] == {
        "limits": {"nvidia.com/gpu": 4}, "requests": {"cpu": "32", "memory": "256Gi"},
    }  # fmt: skip
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H200"}
    assert {d["metadata"]["namespace"] for d in found.values()} == {"ml"}
    assert found["JobSet"]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert [e["secretRef"]["name"] for e in train["envFrom"]] == ["hub", "wandb"]
    assert {"claimName": "mine"} in [v.get("persistentVolumeClaim") for v in pod["volumes"]]
    assert plan.command == ("kubectl", "--namespace=ml", "apply", "-f", "-")


def test_a_topology_says_how_many_hosts():
    plan = launch(target="tpu", topology="4x8", gpu_type="tpu-v6e-slice")
    _, job, pod = pod_of(plan.text)
    assert plan.nodes == job["completions"] == job["parallelism"] == 8
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice", "cloud.google.com/gke-tpu-topology": "4x8",
    }  # fmt: skip
    assert launch(target="tpu", topology="2x2x4", nodes=4).nodes == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "tpu", "nodes": 8}, "8 hosts of 4 chips are no slice of 4x4, which has 4"),
        ({"target": "tpu", "topology": "3x3"}, "a slice of 3x3 has 9 chips"),
        ({"target": "tpu", "topology": "four"}, "'four' is no topology"),
        ({"target": "tpu", "gpus": 8}, "one for TPUs"),
        ({"target": "tpu", "network": "gke"}, "TPUs have a network of their own"),
        ({"topology": "4x4"}, "only TPU slices have a topology"),
        ({"network": "efa", "gpus": 4}, "machines of 8 GPUs"),
        ({"network": "roce"}, "no network 'roce'"),
        ({"target": "slurm", "kind": "batch", "namespace": "ml"}, "runs no container"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        launch(**options)


# -- kubectl ----

# Keeps the workload in a file, as a cluster would: a Job that is there cannot be changed, only deleted.
KUBECTL = """#!/usr/bin/env python3
import json, pathlib, sys
import yaml
here = pathlib.Path(__file__).parent
kept, words = here / "workload.json", [w for w in sys.argv[1:] if not w.startswith("--")]
with (here / "asked").open("a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if words[0] == "get":
    print(kept.read_text() if kept.exists() else "")
elif words[0] == "delete":
    kept.unlink()
else:
    new = list(yaml.safe_load_all(sys.stdin))[-1]
    if kept.exists() and json.loads(kept.read_text())["spec"] != new["spec"]:
        sys.exit("field is immutable")
    kept.write_text(json.dumps(new))
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A kubectl; returns its folder and a function that ends the workload."""
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL.replace("/usr/bin/env python3", sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def end(condition):
        workload = json.loads((tmp_path / "workload.json").read_text())
        workload["status"] = {"conditions": [{"type": condition, "status": "True"}]}
        (tmp_path / "workload.json").write_text(json.dumps(workload))

    return tmp_path, end


@pytest.mark.parametrize(
    ("kind", "condition"), [("job", "Complete"), ("job", "Failed"), ("jobset", "Completed")]
)
def test_the_same_command_again(cluster, kind, condition):
    """Leaves a run alone that still runs, and starts one again that has ended."""
    folder, end = cluster
    plan = launch(kind=kind, namespace="ml")
    log = folder / "asked"
    asked = lambda: re.findall(r"^--namespace=ml (\w+)", log.read_text(), re.M)  # noqa: E731
    assert plan.run().endswith("was started") and asked() == ["get", "apply"]
    assert plan.run().endswith("runs already: nothing was started") and asked()[2:] == ["get"]
    other = launch("seed=5", kind=kind, namespace="ml")
    with pytest.raises(InputError, match="runs with other settings"):
        other.run()
    end(condition)
    assert other.run().endswith("had ended and was started again")
    assert asked()[4:] == ["get", "delete", "apply"]
    # Another `out` is another run.
    assert launch(kind=kind, out="runs/b").manifest.name != plan.manifest.name


def test_one_folder_has_one_workload_however_it_is_spelt():
    names = {
        launch(out=out).manifest.name for out in ("runs/a", "runs/a/", "./runs/a", "/workspace/runs/b/../a")
    }
    assert len(names) == 1 and launch(out="runs/b").manifest.name not in names


@pytest.mark.parametrize("option", ["namespace", "queue", "claim", "secrets"])
def test_names_that_kubernetes_refuses_are_refused_before(option):
    for name in ("Bad", "ö", "a b", "a/b", "-a", "a" * 64):
        value = (name,) if option == "secrets" else name
        with pytest.raises(InputError, match="Kubernetes has no names like"):
            launch(**{option: value})
