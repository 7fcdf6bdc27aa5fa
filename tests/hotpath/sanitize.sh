#!/bin/sh
# The tests of the compiled path on a build with AddressSanitizer and UndefinedBehaviorSanitizer, in a copy of the tree.
# Usage: sanitize.sh [PYTHON]; it needs gcc, and a Python with what `pip install '.[test]'` brings and Cython.
set -eu

python=$(command -v "${1:-python3}")
case $python in
    /*) ;;
    *) python=$PWD/$python ;;
esac
tree=$(cd "$(dirname "$0")/../.." && pwd)
copy=$(mktemp -d "${TMPDIR:-/tmp}/kdns-sanitize.XXXXXX")
trap 'rm -rf "$copy"' EXIT

asan=$(gcc -print-file-name=libasan.so) || asan=
case $asan in
    /*) ;;
    *) echo "gcc or its libasan is missing: apt-get install gcc libc6-dev" >&2; exit 1 ;;
esac

cp -R "$tree/kdns" "$tree/tests" "$tree/setup.py" "$tree/pyproject.toml" "$copy/"
find "$copy" \( -name '*.so' -o -name '*.c' -o -name __pycache__ \) -prune -exec rm -rf {} +
cd "$copy"
if ! CC=gcc KDNS_DEBUG=1 "$python" setup.py -q build_ext --inplace >build.log 2>&1; then
    cat build.log >&2
    exit 1
fi

# Python's own allocator hides what lies beside a block; leaks are not looked for, CPython keeps what it likes. A report
# goes to file descriptor 2, which pytest therefore must not capture.
status=0
LD_PRELOAD="$asan" PYTHONMALLOC=malloc PYTHONDONTWRITEBYTECODE=1 KDNS_TEST_EXAMPLES="${KDNS_TEST_EXAMPLES:-0.1}" \
    ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
    "$python" -m pytest -q --capture=sys -p no:cacheprovider tests/hotpath tests/table >test.log 2>&1 || status=$?
if [ "$status" -ne 0 ]; then
    cat test.log >&2
    echo "sanitize: FAILED, status $status"
    exit "$status"
fi
echo "sanitize: $(tail -n 1 test.log), no finding of AddressSanitizer or UndefinedBehaviorSanitizer"
