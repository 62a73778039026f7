"""Run the command line as a module: python -m blip_edge VERB …"""

from blip_edge.cli import main

if __name__ == "__main__":
    main()
