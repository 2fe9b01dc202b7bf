"""check-deploy.py FOLDER MODELS: checks the manifests that `scripts/check-deploy` rendered; run by it.

FOLDER has a copy of deploy/kubernetes, and base.yaml and example.yaml if they could be rendered. MODELS has the npm
packages for the kinds that are not a part of Kubernetes, if they could be fetched.
"""

import base64, ipaddress, json, subprocess, sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate, yaml

VERSIONS = ["1.30", "1.37"]
PACKAGES = {"gateway.networking.k8s.io": "gateway-api", "monitoring.coreos.com": "prometheus-operator"}
# Secrets that are no part of the kustomization.
EXTERNAL = {"signet-keys"}
PATHS = json.loads(Path("openapi/openapi.json").read_text())["paths"]
INTERNAL = {"/livez", "/readyz", "/metrics"}
# The container's ports, and the settings that make Signet listen on them.
BINDS = {"http": "SIGNET__SERVER__BIND", "metrics": "SIGNET__SERVER__METRICS_BIND"}
# What the Pod Security Standard `restricted` demands of a container, the image's user, and a read-only file system.
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
    "readOnlyRootFilesystem": True,
}
problems = []


def check(is_right, problem):
    if not is_right:
        problems.append(problem)


def load(file):
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def package(document):
    return PACKAGES.get(document["apiVersion"].split("/")[0])


def check_schemas(file, documents):
    for document in documents:
        for version in VERSIONS if not package(document) else []:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                at = ".".join(map(str, error.path))
                check(False, f"{file}: {document['kind']} for Kubernetes {version}: {at}: {error.message}")


def check_models(documents, models):
    """TypeScript finds unknown fields, and the models' own validators find values that are not allowed."""
    program = []
    for number, document in enumerate(documents):
        version, kind = document["apiVersion"], document["kind"]
        path = f"@kubernetes-models/{package(document)}/{version}/{kind}"
        program.append(f'import {{ {kind} as Kind{number}, type I{kind} as IKind{number} }} from "{path}";')
        program.append(f"const object{number}: IKind{number} = {json.dumps(document)};")
        program.append(f"new Kind{number}(object{number}).validate();")
    (models / "check.mts").write_text("\n".join(program))
    options = ["--strict", "--skipLibCheck", "--module", "nodenext", "--types", ""]
    for command in [["node_modules/.bin/tsc", *options, "check.mts"], ["node", "check.mjs"]]:
        done = subprocess.run(command, cwd=models, capture_output=True, text=True)
        check(done.returncode == 0, f"{command[0]}: {(done.stdout + done.stderr).strip()}")


def check_parts(objects):
    """Whether the objects of one kustomization fit together."""
    pod = objects["Deployment", "signet"]["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    containers = pod["spec"]["initContainers"] + pod["spec"]["containers"]
    ports = {port["name"] for container in containers for port in container.get("ports", [])}
    images = {container["image"] for container in containers}
    check(len(images) == 1, f"the containers have different images: {images}")
    for (kind, name), item in objects.items():
        spec = item.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if selector and kind != "Deployment":
            selected = selector if kind == "Service" else selector["matchLabels"]
            check(selected.items() <= labels, f"{kind} {name} does not select the pods")
        for port in spec.get("ports", []) if kind == "Service" else []:
            check(port["targetPort"] in ports, f"Service {name}: no container has the port {port['targetPort']}")
        for endpoint in spec.get("podMetricsEndpoints", []):
            check(endpoint["port"] in ports, f"PodMonitor {name}: no container has the port {endpoint['port']}")
        if kind == "HorizontalPodAutoscaler":
            target = objects.get((spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]))
            check(target, f"{kind} {name}: there is no {spec['scaleTargetRef']}")
            check(not target or "replicas" not in target["spec"], f"{kind} {name}: its target sets `replicas`")
    return pod["spec"]


def environment(container, objects):
    found = {}
    for source in container.get("envFrom", []):
        name = source["configMapRef"]["name"]
        check(("ConfigMap", name) in objects, f"{container['name']}: there is no ConfigMap {name}")
        found |= objects.get(("ConfigMap", name), {}).get("data", {})
    return found | {variable["name"]: variable["value"] for variable in container.get("env", [])}


def mounted(container, pod, objects):
    """The secrets that a container mounts, by path, and the content of each mounted file."""
    volumes = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"]}
    secrets, files = {}, {}
    for mount in container["volumeMounts"]:
        path, secret = mount["mountPath"], volumes.get(mount["name"])
        secrets[path] = secret
        exists = secret in EXTERNAL or ("Secret", secret) in objects
        check(exists, f"{container['name']}: there is no secret {secret} for {path}")
        for key, value in objects.get(("Secret", secret), {}).get("data", {}).items():
            files[f"{path}/{key}"] = base64.b64decode(value).decode()
    return secrets, files


def allowed_ports(objects, direction):
    """The ports of all network policies in this direction; None stands for a rule that allows every port."""
    policies = [item["spec"] for (kind, _), item in objects.items() if kind == "NetworkPolicy"]
    rules = [rule for policy in policies for rule in policy.get(direction, [])]
    return {port.get("port") for rule in rules for port in rule.get("ports", [{}])}


def check_container(container, command, role, pod, objects):
    name, variables = container["name"], environment(container, objects)
    check(container.get("args") == [command], f"{name}: args is {container.get('args')}, and must be [{command}]")
    security = pod.get("securityContext", {}) | container.get("securityContext", {})
    for field, value in RESTRICTED.items():
        found = security.get(field)
        check(found == value, f"{name}: securityContext.{field} is {found}, and must be {value}")
    secrets, files = mounted(container, pod, objects)
    for variable, value in variables.items():
        check(variable.startswith("SIGNET_"), f"{name}: {variable} is no setting")
        check(not variable.endswith("_FILE") or value in files, f"{name}: {variable}: no secret has {value}")
    url = urlsplit(files.get(variables["SIGNET__DATABASE__URL_FILE"], "").strip())
    query = parse_qs(url.query)
    check(url.username == role, f"{name}: connects to PostgreSQL as {url.username}, not as {role}")
    check(query.get("sslmode") == ["verify-full"], f"{name}: the URL of PostgreSQL has no sslmode=verify-full")
    unreachable = {53, url.port or 5432} - allowed_ports(objects, "egress")
    check(not unreachable, f"NetworkPolicy: {name} cannot reach DNS or PostgreSQL on the ports {unreachable}")
    authority = query.get("sslrootcert", [""])[0]
    check("BEGIN CERTIFICATE" in files.get(authority, ""), f"{name}: no secret has the certificate {authority}")
    return variables, secrets


def check_listeners(container, variables, objects):
    """Whether probes, Prometheus and network policies name the ports on which Signet listens, and its paths."""
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for name, setting in BINDS.items():
        found, bind = variables.get(setting), f"0.0.0.0:{ports[name]}"
        check(found == bind, f"{setting} is {found}, and must be {bind} for the container's port {name}")
    for kind in ["startupProbe", "livenessProbe", "readinessProbe"]:
        probe = container[kind]["httpGet"]
        check(probe["path"] in PATHS, f"{kind}: Signet has no path {probe['path']}")
        check(probe["port"] == "http", f"{kind}: the port is {probe['port']}, and must be http")
    annotations = objects["Deployment", "signet"]["spec"]["template"]["metadata"]["annotations"]
    path, port = annotations["prometheus.io/path"], annotations["prometheus.io/port"]
    check(path in PATHS, f"prometheus.io/path: Signet has no path {path}")
    check(port == str(ports["metrics"]), f"prometheus.io/port is {port}, and must be {ports['metrics']}")
    allowed, existing = allowed_ports(objects, "ingress"), set(ports.values())
    check(allowed == existing, f"NetworkPolicy: the ingress ports are {allowed}, but the container's are {existing}")


def matches(route, path):
    for match in (match["path"] for rule in route["spec"]["rules"] for match in rule["matches"]):
        value = match["value"]
        if path == value or match["type"] == "PathPrefix" and path.startswith(value.rstrip("/") + "/"):
            return True
    return False


def check_example(objects):
    pod = check_parts(objects)
    migrate, serve = pod["initContainers"][0], pod["containers"][0]
    check_container(migrate, "migrate", "signet_owner", pod, objects)
    variables, secrets = check_container(serve, "serve", "signet", pod, objects)
    check_listeners(serve, variables, objects)
    for network in map(ipaddress.ip_network, variables["SIGNET__SERVER__TRUSTED_PROXIES"].split(",")):
        is_narrow = network.num_addresses <= 256
        check(is_narrow, f"SIGNET__SERVER__TRUSTED_PROXIES: {network} has more than 256 addresses, some of clients")
    owners = [secret for secret in secrets.values() if secret.startswith("signet-migration")]
    check(not owners, "the service can read the database URL of the role that owns the tables")
    check(secrets.get(variables["SIGNET__JWT__KEYS_DIR"]) == "signet-keys", "SIGNET__JWT__KEYS_DIR is not signet-keys")
    check("cpu" in serve["resources"]["requests"], "the autoscaler needs a request of CPU")
    check(":" in serve["image"], f"the image has no version: {serve['image']}")

    namespaces = {item["metadata"].get("namespace") for (kind, _), item in objects.items() if kind != "Namespace"}
    declared = {name for kind, name in objects if kind == "Namespace"}
    check(namespaces == declared, f"the objects are in {namespaces}, but the namespace is {declared}")

    route = objects["HTTPRoute", "signet"]
    host = urlsplit(variables["SIGNET__SERVER__PUBLIC_URL"]).hostname
    check(route["spec"]["hostnames"] == [host], f"HTTPRoute: the hosts are not that of the public URL, {host}")
    for path in PATHS:
        check(matches(route, path) == (path not in INTERNAL), f"HTTPRoute: {path} must be reachable, or must not be")
    for backend in (backend for rule in route["spec"]["rules"] for backend in rule["backendRefs"]):
        service = objects.get(("Service", backend["name"]), {"spec": {"ports": []}})
        has_port = backend["port"] in [port["port"] for port in service["spec"]["ports"]]
        check(has_port, f"HTTPRoute: no service has {backend}")


def main(folder, models):
    alerts = yaml.safe_load(Path("deploy/prometheus/alerts.yaml").read_text())
    [rule] = load(folder / "kubernetes/prometheus-operator/prometheus-rule.yaml")
    check(rule["spec"] == alerts, "prometheus-rule.yaml differs from alerts.yaml: run `scripts/check-deploy --write`")

    files = sorted((folder / "kubernetes").glob("**/*.yaml"))
    for file in files:
        listing = (file.parent / "kustomization.yaml").read_text()
        is_listed = f"- {file.name}\n" in listing or f"- path: {file.name}\n" in listing
        check(is_listed or file.name == "kustomization.yaml", f"{file.name} is not listed in its kustomization.yaml")

    is_rendered = (folder / "example.yaml").exists()
    if is_rendered:
        files = [folder / "base.yaml", folder / "example.yaml"]
    else:
        # Neither a kustomization nor a patch is an object of a cluster.
        files = [file for file in files if file.name not in ("kustomization.yaml", "resources.yaml")]
    documents = {file.name: load(file) for file in files}
    for file, part in documents.items():
        check_schemas(file, part)
    custom = [document for part in documents.values() for document in part if package(document)]
    has_models = (models / "fetched").exists()
    if has_models:
        check_models(custom, models)
    if is_rendered:
        base, example = (
            {(document["kind"], document["metadata"]["name"]): document for document in part}
            for part in documents.values()
        )
        check_parts(base)
        check_example(example)

    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    count = sum(map(len, documents.values())) - len(custom)
    print(f"{count} objects of deploy/kubernetes are valid for Kubernetes {' and '.join(VERSIONS)}.")
    if has_models:
        print(f"{len(custom)} are valid for the Gateway API and the Prometheus operator.")
    if is_rendered:
        print("The rendered objects fit together.")
    return 0


sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
