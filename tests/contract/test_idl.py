"""Flyte's App IDL becomes an AppSpec, or an error that names every field that this machine cannot honour."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from flyted.contract import gpu
from flyted.contract.app import SecretUse, from_dict, to_dict
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.idl import asks_gpu, spec_of
from tests.contract.described import IDL, RESOLVER, changed


def test_the_documents_app() -> None:
    """The seed's app: what it asks for is what it gets; the client's own run-by-run values are gone."""
    spec = spec_of(IDL, image={"baseImage": "x"}, bundle="a" * 64)
    assert spec.command == (
        "fserve", "--resolver", RESOLVER, "--resolver-args", "basic_auth:env", "--",
    )  # fmt: skip
    assert (spec.cpu_cores, spec.memory_bytes, spec.scaledown_after_s, spec.min_replicas) == (1.0, 512 << 20, 300.0, 0)
    assert spec.secrets == (SecretUse("API_KEY", env="API_KEY"),)
    assert (spec.env, spec.sys_path) == ((("MODE", "a $HOME b"),), "./.")
    assert spec.links == (("Docs", "/docs"),)


def test_an_unchanged_file_is_an_equal_spec() -> None:
    """The SDK's --version is new at every run of the same file; the digest is not."""
    other = copy.deepcopy(IDL)
    other["spec"]["container"]["command"][2] = "bbbb"
    other["spec"]["container"]["env"][0]["value"] = (
        "./.:./.:./."  # by a script and by `flyte serve`, as often as it likes
    )
    assert spec_of(IDL).digest() == spec_of(other).digest()
    assert spec_of(IDL).digest() != spec_of(changed("container.args", ["uvicorn", "m:app"])).digest()


def test_a_spec_survives_the_wire() -> None:
    """What flytectl sends is what the daemon reads."""
    spec = spec_of(IDL, image={"baseImage": "x", "layers": []}, image_files={"r.txt": "six"})
    assert from_dict(json.loads(json.dumps(to_dict(spec)))) == spec


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("securityContext.runAs", {"k8sServiceAccount": "robot"}, "service_account"),
        ("pod", {"x": 1}, "pod_template"),
        ("autoscaling.replicas", {"min": 65, "max": 66}, r"replicas=\(65, 66\): at least 65"),
        ("ingress.private", True, "private"),
        (
            "extendedResources",
            {"gpuAccelerator": {"device": "tpu-v5p-slice", "deviceClass": "GOOGLE_TPU"}},
            "resources.gpu of 'GOOGLE_TPU'",
        ),
        (
            "extendedResources",
            {"gpuAccelerator": {"acceleratorModel": "NVIDIA_H200"}},
            "of 'NVIDIA_H200', without",
        ),
        ("extendedResources", {"sharedMemory": {"mountPath": "/mnt"}}, "resources.shm at '/mnt'"),
        ("fieldOf2031", 1, "fieldOf2031"),
        ("container.config", [{"key": "a"}], "spec.container.config"),
        ("autoscaling.scalingMetric", {"weather": {}}, "spec.autoscaling.scalingMetric.weather"),
        ("securityContext.secrets", [{"key": "a", "rotation": 1}], "spec.securityContext.secrets.rotation"),
        ("securityContext.secrets", [{"key": "a", "mountRequirement": 7}], "mountRequirement 7"),
        ("container.resources", {"limits": [{"name": 99, "value": "1"}]}, "resource '99'"),
    ],
)
def test_what_is_not_built_is_refused_by_name(path: str, value: object, named: str) -> None:
    """Never ignored: an app that would run differently from what its file says does not run."""
    with pytest.raises(Unsupported, match=named):
        spec_of(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("autoscaling.replicas", {"max": 65}, "replicas=(0, 65): flyted runs at most 64 replicas"),
        ("autoscaling.replicas", {"min": 1, "max": 99}, "replicas=(1, 99): flyted runs at most 64 replicas"),
        ("autoscaling.replicas", {}, "replicas=0 is treated as (0, 1)"),
        ("autoscaling.scalingMetric", {"concurrency": {"targetValue": 10}}, "scaling.metric=Concurrency"),
        ("autoscaling.scalingMetric", {"requestRate": {"targetValue": 5}}, "scaling.metric=RequestRate"),
        ("clusterPool", "gpus", "cluster_pool='gpus' has no effect: flyted runs on one machine"),
        ("cluster", "east", "cluster='east' has no effect: flyted runs on one machine"),
    ],
)
def test_what_an_app_does_without_is_said(path: str, value: object, said: str) -> None:
    """A maximum is no demand; it is never ignored without a word, and travels to flyted with the app."""
    spec = spec_of(changed(path, value))
    assert len(spec.unmet) == 1
    assert said in spec.unmet[0]
    assert from_dict(json.loads(json.dumps(to_dict(spec)))).unmet == spec.unmet
    assert spec_of(IDL).unmet == ()


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ({"replicas": {"max": 1}}, (0, 1, 0, 0)),
        ({"replicas": {"max": 5}}, (0, 5, 0, 0)),
        ({"replicas": {"min": 2, "max": 5}}, (2, 5, 0, 0)),
        ({"replicas": {"min": 3, "max": 3}}, (3, 3, 0, 0)),
        ({"replicas": {"max": 99}}, (0, 64, 0, 0)),
        ({"replicas": {}}, (0, 1, 0, 0)),
        ({"replicas": {"max": 5}, "scalingMetric": {"concurrency": {"targetValue": 7}}}, (0, 5, 7, 0)),
        ({"replicas": {"max": 5}, "scalingMetric": {"requestRate": {"targetValue": 8}}}, (0, 5, 0, 8)),
    ],
)
def test_replicas_and_what_decides_about_them(scaling: dict[str, Any], expected: tuple[int, ...]) -> None:
    """As flyte.app.Scaling sends them."""
    spec = spec_of(changed("autoscaling", scaling))
    assert (spec.min_replicas, spec.max_replicas, spec.concurrency, spec.request_rate) == expected


@pytest.mark.parametrize("replicas", [{"min": 3, "max": 2}, {"min": -1, "max": 2}, {"min": 2}])
def test_numbers_of_replicas_that_make_no_sense_are_refused(replicas: dict[str, int]) -> None:
    """The SDK sends none of them."""
    with pytest.raises(InvalidInput, match="replicas="):
        spec_of(changed("autoscaling.replicas", replicas))


def test_fields_of_metadata_are_not_ignored() -> None:
    """Labels are said; what no version of ours knows is refused by its path."""
    labelled = copy.deepcopy(IDL)
    labelled["metadata"]["labels"] = {"team": "search"}
    assert "labels ('team')" in spec_of(labelled).unmet[0]
    labelled["metadata"]["colour"] = "blue"
    with pytest.raises(Unsupported, match=r"metadata\.colour"):
        spec_of(labelled)


@pytest.mark.parametrize(
    ("shared", "size"), [({}, 0), ({"sizeLimit": "64Mi"}, 64 << 20), ({"mountName": "flyte-shm"}, 512 << 20)]
)
def test_shared_memory_is_a_size_or_as_much_as_memory(shared: dict[str, str], size: int) -> None:
    """shm="64Mi"; shm="auto" comes without a size (flyte/_internal/runtime/resources_serde.py)."""
    extended = {"sharedMemory": {"mountPath": "/dev/shm", **shared}} if shared else {}
    assert spec_of(changed("extendedResources", extended)).shm_bytes == size


def test_disk_is_room_that_is_looked_for() -> None:
    """resources.disk, with memory as it was."""
    requests = [{"name": "EPHEMERAL_STORAGE", "value": "10Gi"}]
    spec = spec_of(changed("container.resources", {"requests": requests}))
    assert spec.disk_bytes == 10 << 30
    assert spec_of(IDL).disk_bytes == 0
    with pytest.raises(InvalidInput, match="disk '10GB'"):
        spec_of(changed("container.resources", {"requests": [{**requests[0], "value": "10GB"}]}))


@pytest.mark.parametrize(
    ("requests", "accelerator", "ask"),
    [
        ("1", {"device": "nvidia-l40s"}, (1, "L40S", "")),
        ("2", {"device": "nvidia-a100-80gb"}, (2, "A100 80GB", "")),
        ("1", {"device": "nvidia-tesla-a100", "partitionSize": "1g.5gb"}, (1, "A100", "1g.5gb")),
        ("4", {}, (4, "", "")),
        ("", {"device": "H200"}, (1, "H200", "")),
        ("", {}, (0, "", "")),
    ],
)
def test_gpus_are_asked_for_in_flytes_words(
    requests: str, accelerator: dict[str, str], ask: tuple[int, str, str]
) -> None:
    """resources.gpu as an int, as a name with a number, and as a partition; and the flags in its place."""
    idl = changed("extendedResources", {"gpuAccelerator": accelerator} if accelerator else {})
    if requests:
        idl["spec"]["container"]["resources"] = {"requests": [{"name": "GPU", "value": requests}]}
    spec = spec_of(idl)
    assert (spec.gpu_count, spec.gpu_name, spec.gpu_partition) == ask
    assert from_dict(to_dict(spec)) == spec
    assert asks_gpu(idl) is (ask[0] > 0)
    assert spec_of(idl, gpus=gpu.NONE).gpu_count == 0
    assert spec_of(idl, gpus=gpu.of_flag("any:2")).gpu == gpu.Ask(2)


def test_a_number_of_gpus_is_a_number() -> None:
    """A quantity that is none is refused, not read as something else."""
    with pytest.raises(InvalidInput, match=r"resources\.gpu"):
        spec_of(changed("container.resources", {"requests": [{"name": "GPU", "value": "500m"}]}))


def test_all_problems_are_told_at_once() -> None:
    """Nobody repairs a file ten times."""
    idl = changed("ingress.private", True)
    idl["spec"]["pod"] = {"x": 1}
    with pytest.raises(Unsupported) as caught:
        spec_of(idl)
    assert "pod_template" in caught.value.message
    assert "private" in caught.value.message


def test_the_names_of_an_app() -> None:
    """As DNS has them; what cannot be one is refused."""
    spec = spec_of(changed("ingress", {"subdomain": "shop", "cname": "Shop.Example.ORG."}))
    assert (spec.subdomain, spec.custom_domain) == ("shop", "shop.example.org")
    for ingress in (
        {"subdomain": "a.b"},
        {"subdomain": "Shop"},
        {"cname": "shop"},
        {"cname": "a b.c"},
        {"cname": "*.x.org"},
    ):
        with pytest.raises(InvalidInput):
            spec_of(changed("ingress", ingress))


@pytest.mark.parametrize(
    ("security", "wanted"),
    [({}, True), ({"allowAnonymous": False}, True), ({"allowAnonymous": True}, False)],
)
def test_an_app_that_says_nothing_wants_a_token(security: dict[str, bool], wanted: bool) -> None:
    """Flyte's default; false is absent in protobuf-JSON."""
    idl = copy.deepcopy(IDL)
    idl["spec"]["securityContext"] = security
    assert spec_of(idl).requires_auth is wanted
    del idl["spec"]["securityContext"]
    assert spec_of(idl).requires_auth is True


def test_a_spec_of_before_there_were_tokens_stays_open() -> None:
    """Such apps were accepted with ``requires_auth=False`` only."""
    old = to_dict(spec_of(IDL))
    del old["requires_auth"]
    assert from_dict(old).requires_auth is False


def test_a_pickled_app_is_served_like_another() -> None:
    """Its address is the client's, and differs from one that was served by another client."""
    command = ["fserve", "--version", "a", "--pkl", "flyted://p/d/m/code.pkl.gz", "--dest", ".", "--"]
    spec = spec_of(changed("container.command", command), bundle="a" * 64)
    assert spec.command == ("fserve", "--pkl", "bundle", "--")
    assert (spec.port, spec.server_port) == (0, 8080)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("container.env", [{"key": "LD_PRELOAD", "value": "x"}]),
        ("container.env", [{"key": "A", "value": "x\0y"}]),
        ("container.env", [{"key": "_F_SYS_PATH", "value": "../.."}]),
        ("container.env", [{"key": "_F_SYS_PATH", "value": "/root"}]),
        ("links", [{"title": "Docs", "path": "@evil.example/"}]),
        ("links", [{"title": "Docs", "path": "//evil.example/"}]),
        ("links", [{"title": "Docs", "path": "javascript:alert(1)"}]),
        ("profile", {"shortDescription": "x\nExecStartPre=+/bin/sh"}),
        ("profile", {"shortDescription": "x\u2028y"}),
        ("securityContext.secrets", [{"key": "../x", "mountRequirement": "FILE"}]),
        ("securityContext.secrets", [{"group": "a/b", "key": "c"}]),
        ("securityContext.secrets", [{"group": g, "key": "c", "mountRequirement": "FILE"} for g in "ab"]),
        ("securityContext.secrets", [{"key": "a", "envVar": "PATH"}]),
        ("securityContext.secrets", [{"group": "A_B", "key": "C"}, {"group": "A", "key": "B_C"}]),
        ("autoscaling.scaledownPeriod", "0.1s"),
        ("timeouts", {"requestTimeout": "7200s"}),
        ("container.resources", {"requests": [{"name": "MEMORY", "value": "512MB"}]}),
    ],
)
def test_bad_values_are_refused(path: str, value: object) -> None:
    """Names, control characters, ranges: one error, before anything is sent."""
    with pytest.raises(InvalidInput):
        spec_of(changed(path, value))


def test_a_limit_wins_over_a_request() -> None:
    """Resources(memory=("256Mi", "1Gi")) is held to the second."""
    resources = {"requests": [{"name": "MEMORY", "value": "256Mi"}], "limits": [{"name": "MEMORY", "value": "1Gi"}]}
    assert spec_of(changed("container.resources", resources)).memory_bytes == 1 << 30


@pytest.mark.parametrize(
    ("secret", "use"),
    [
        ({"key": "db-password", "group": "team"}, SecretUse("team/db-password", env="TEAM_DB_PASSWORD")),
        ({"key": "TOKEN", "group": "aws", "mountRequirement": "FILE"}, SecretUse("aws/TOKEN", file="TOKEN")),
        ({"key": "TOKEN", "mountRequirement": "FILE"}, SecretUse("TOKEN", file="TOKEN")),
    ],
)
def test_secrets_take_flytes_default_names(secret: dict[str, str], use: SecretUse) -> None:
    """flyte/_secret.py: GROUP_KEY in capitals; a file is named after its key."""
    assert spec_of(changed("securityContext.secrets", [secret])).secrets == (use,)


@pytest.mark.parametrize("container", [{}, {"command": []}, {"args": []}, {"ports": [{"name": "h2c"}]}])
def test_an_app_without_a_command_and_an_image_is_told_so(container: dict[str, Any]) -> None:
    """Whatever else its container says."""
    with pytest.raises(InvalidInput, match="needs a command"):
        spec_of(changed("container", container))


@pytest.mark.parametrize("args", [[], ["-g", "daemon off;"]])
def test_without_a_command_the_images_own_is_run_with_the_args(args: list[str]) -> None:
    """As on Kubernetes, on the port that the file names; with a command, the image's own is not."""
    container = {"image": "nginx:1.27", "args": args, "ports": [{"containerPort": 80}]}
    made = spec_of(changed("container", container))
    assert (made.entrypoint, made.command, made.port, made.server_port) == (True, tuple(args), 80, 0)
    made = spec_of(changed("container", {**container, "command": ["nginx"]}))
    assert (made.entrypoint, made.command) == (False, ("nginx", *args))


@pytest.mark.parametrize("number", ["9" * 5000, "\u00b2", "-1", "1.5", ""])
def test_a_number_of_gpus_that_is_none_is_refused(number: str) -> None:
    """In a file and on the command line, however long it is: int() refuses more than 4300 digits by itself."""
    with pytest.raises(InvalidInput):
        spec_of(changed("container.resources", {"limits": [{"name": "GPU", "value": number}]}))
    if number:
        with pytest.raises(InvalidInput):
            gpu.of_flag(f"any:{number}")
