# Two stages: a compiler builds wheels, and a slim image runs them as nobody, without a shell's worth of extras.
FROM python:3.12-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY kdns kdns
RUN python -m venv /opt/kdns \
 && /opt/kdns/bin/pip install --no-cache-dir . \
 && /opt/kdns/bin/pip uninstall --yes pip \
 && find /opt/kdns -name __pycache__ -type d -prune -exec rm -rf {} + \
 && /opt/kdns/bin/python -m compileall -q /opt/kdns/lib

FROM python:3.12-slim-bookworm
# Port 53 without root: the interpreter of this environment alone may bind low ports.
RUN apt-get update && apt-get install -y --no-install-recommends libcap2-bin \
 && cp --remove-destination "$(readlink -f /usr/local/bin/python3)" /usr/local/bin/kdns-python \
 && setcap cap_net_bind_service=+ep /usr/local/bin/kdns-python \
 && apt-get purge -y --auto-remove libcap2-bin && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/kdns /opt/kdns
RUN for name in python python3; do ln -sf /usr/local/bin/kdns-python "/opt/kdns/bin/$name"; done \
 && ln -sf /opt/kdns/bin/kdns /kdns && ln -s /kdns /coredns
USER 65532:65532
WORKDIR /
EXPOSE 53/udp 53/tcp 8080 8181
ENTRYPOINT ["/kdns"]
