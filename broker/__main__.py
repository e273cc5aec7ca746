"""`python -m broker` is `fleetfeed`."""

from broker.cli import main

if __name__ == "__main__":
    main()
