"""The directives: their order, and the `setup` of those kdns has."""

from kdns.plugins import errors, health, kubernetes, loadbalance, ready, whoami
from kdns.plugins.plugin import SetupFunction

# The order of every chain, whatever the order in the file: CoreDNS 1.14.7's, with all the names it knows.
ORDER = (
    "root", "metadata", "geoip", "cancel", "proxyproto", "quic", "grpc_server", "https", "https3", "timeouts",
    "multisocket", "reload", "nsid", "bufsize", "bind", "debug", "trace", "ready", "health", "pprof", "shed",
    "prometheus", "errors", "log",
    "dnstap", "local", "dns64", "any", "chaos", "loadbalance", "tsig", "rewrite", "autopath", "acl",
    "cache", "header", "dnssec", "tls", "minimal", "template", "transfer", "hosts", "route53", "azure", "clouddns",
    "k8s_external", "kubernetes", "file", "auto", "secondary", "etcd", "loop", "forward", "grpc", "erratic", "whoami",
    "on", "sign", "view", "nomad",
)  # fmt: skip

SETUPS: dict[str, SetupFunction] = {
    "errors": errors.setup,
    "health": health.setup,
    "kubernetes": kubernetes.setup,
    "loadbalance": loadbalance.setup,
    "ready": ready.setup,
    "whoami": whoami.setup,
}
