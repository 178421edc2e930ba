"""`python -m local_sagemaker --address-file PATH --log-dir PATH`: the server in the foreground."""

from local_sagemaker.server import main

if __name__ == "__main__":
    main()
