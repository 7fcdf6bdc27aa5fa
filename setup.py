"""Builds the compiled path; everything else about the package stands in pyproject.toml."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

# `make debug` sets this: assertions, AddressSanitizer and UndefinedBehaviorSanitizer in the compiled path.
DEBUG = os.environ.get("KDNS_DEBUG") == "1"

if DEBUG:
    SANITIZE = "-fsanitize=address,undefined"
    COMPILE = ["-O1", "-g", SANITIZE, "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
    LINK = [SANITIZE]
else:
    COMPILE = ["-O3", "-g0"]
    LINK = []

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    # What Cython's own boilerplate does, in every module it makes.
    "-Wno-unused-function",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    "-Wno-sign-compare",
    "-Wno-cast-function-type",
]

MODULES = [
    "wire",
    "detours",
    "table",
    "table_writer",
    "nodes",
    "meter",
    "sections",
    "walker",
    "cache_memory",
    "cache",
    "cached",
    "verdict",
    "answer",
    "upstreams",
    "questions",
    "attempts",
    "forward",
    "udp",
    "stream",
]

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"kdns.hotpath.{name}",
                [f"kdns/hotpath/{name}.pyx"],
                extra_compile_args=[*COMPILE, *WARNINGS],
                extra_link_args=LINK,
            )
            for name in MODULES
        ],
        compiler_directives={"language_level": 3, "warn.undeclared": False},
    ),
    options={"build_ext": {"parallel": os.cpu_count()}},  # a module takes a compiler some ten seconds
)
