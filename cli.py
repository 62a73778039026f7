"""Run the command line from a checkout that is not installed: python cli.py VERB …"""

from blip_edge.cli import main

if __name__ == "__main__":
    main()
