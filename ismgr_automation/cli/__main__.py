"""`python -m ismgr_automation.cli` is the `ismgr` command."""

from ismgr_automation.cli.main import main

main()
