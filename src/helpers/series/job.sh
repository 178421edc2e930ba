# What the container of a job runs: unpacks the files beside it, installs what they need, and runs the series.

set -e
for python in python3.13 python3.12 python3.11 python3; do
    "$python" -c pass 2>/dev/null && break
done
folder=$(mktemp -d)
"$python" -m zipfile -e "$(dirname "$0")/source.zip" "$folder"
cd "$folder"
make setup PYTHON="$python"
exec .venv/bin/python -m helpers in-job "$@"
