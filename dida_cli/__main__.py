"""python -m dida_cli"""

from dida_cli.cli import main

main()
