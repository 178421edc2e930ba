# Start-up script for notebook jobs of SageMaker Studio: makes the kernel on the job's machine, and the job run in it.
# The job sources it with `set -ex`: what fails ends the job, and each command stands in its log, so no token belongs here.
# REPOSITORY, an environment variable of the job, is the address of your clone, with your configs committed.

CLONE=${TMPDIR:-/tmp}/llm-serving-verdict
git clone --quiet --depth 1 "${REPOSITORY:?set it among the environment variables of the job: what git clones}" "$CLONE"
make --directory "$CLONE" kernel
export SM_KERNEL_NAME=llm-serving-verdict # the job's form offers only the kernels of the image
