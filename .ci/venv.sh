#!/bin/sh
# venv.sh DIR: make a virtual environment in DIR with a Python that is new enough, or say what is missing.
# PYTHON names the interpreter to try first. An environment that works is kept as it is.
set -eu
dir=$1
first=${PYTHON:-python3}
fits='import sys; raise SystemExit(sys.version_info < (3, 11))'

if [ -x "$dir/bin/python" ] && "$dir/bin/python" -c "$fits" 2>/dev/null; then
    exit 0
fi

chosen=
for candidate in "$first" python3 python3.13 python3.12 python3.11 python3.14 python; do
    if "$candidate" -c "$fits" >/dev/null 2>&1; then
        chosen=$candidate
        break
    fi
done
if [ -z "$chosen" ]; then
    found=$("$first" --version 2>/dev/null || echo "no '$first' that runs")
    echo "fairstem needs Python 3.11 or newer; found: $found." >&2
    echo "Install one, or name it: make test PYTHON=/path/to/python3.12" >&2
    exit 1
fi
if ! "$chosen" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    echo "'$chosen' has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 1
fi
echo "making $dir with $("$chosen" --version)"
"$chosen" -m venv --clear "$dir"
