# Start-up script for notebook jobs of SageMaker Studio: installs the kernel on the job's machine and makes the job use it.
# The job sources it with `set -ex`: a failing command ends the job, and every command is logged, so do not put tokens here.
# REPOSITORY, an environment variable of the job, is the address of your clone, with your configs committed.

CLONE=${TMPDIR:-/tmp}/llm-serving-verdict
git clone --quiet --depth 1 "${REPOSITORY:?set it among the environment variables of the job: what git clones}" "$CLONE"
make --directory "$CLONE" kernel
export SM_KERNEL_NAME=llm-serving-verdict # the job's form offers only the kernels of the image
