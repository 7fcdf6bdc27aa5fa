"""The directives: their order, and the `setup` of those kdns has."""

from importlib import import_module

from kdns.plugins.plugin import Plugin, Setup, SetupFunction

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

# Those kdns has: a module or a package of that name each, with a function `setup`.
_DIRECTIVES = (
    "acl",
    "any",
    "autopath",
    "bind",
    "bufsize",
    "cache",
    "cancel",
    "chaos",
    "debug",
    "errors",
    "file",
    "forward",
    "header",
    "health",
    "hosts",
    "k8s_external",
    "kubernetes",
    "loadbalance",
    "loop",
    "local",
    "log",
    "minimal",
    "multisocket",
    "nsid",
    "prometheus",
    "ready",
    "reload",
    "rewrite",
    "root",
    "template",
    "timeouts",
    "transfer",
    "view",
    "whoami",
)


def _setup_of(name: str) -> SetupFunction:
    """The `setup` of a directive; its module is imported with the first use: a Corefile has a third of them."""

    def setup(directive: Setup) -> Plugin | None:
        found: SetupFunction = import_module(f"{__name__}.{name}").setup
        return found(directive)

    return setup


SETUPS: dict[str, SetupFunction] = {name: _setup_of(name) for name in _DIRECTIVES}
