"""`python -m helpers.local_sagemaker --address-file PATH --log-dir PATH`: the server in the foreground."""

from helpers.local_sagemaker.server import main

if __name__ == "__main__":
    main()
