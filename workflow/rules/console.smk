"""What a run prints; ``nfbench/core/console.py`` describes the lines."""

from nfbench.core.console import Console


def make_console():
    """Replaces Snakemake's handler for the terminal. Runs that ask for details with ``--printshellcmds``, ``--verbose`` or
    ``--debug-dag`` keep it, as do dry runs and the processes that Snakemake starts on a cluster."""
    settings = workflow.output_settings
    detailed = settings.dryrun or settings.printshellcmds or settings.verbose or settings.debug_dag
    found = [handler for handler in logger.handlers if handler.name == "DefaultStreamHandler"]
    if detailed or not found or not workflow.is_main_process:
        return None
    console = Console(found[0])
    logger.removeHandler(found[0])
    logger.addHandler(console)
    return console


CONSOLE = make_console()
