"""Makes all tables anew and writes each, as soon as it is there, into this folder's README.

    PASSIONSR_REALSR=DIR PASSIONSR_NIQE=niqe_modelparameters.mat \\
        python tests/quality/make_tables.py FOLDER [TABLE ...] [--limit 20]

FOLDER keeps checkpoints, images and reports of the tables, apart from those of the user; the same
command goes on after a stop, and measures nothing twice. A table stands between the lines
`<!-- table NAME -->` and `<!-- end of NAME -->`. All calibrations have `--config quick`. With
`--limit` the README stays as it is: it is of all pairs.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from passionsr_cli import __version__, api
from passionsr_cli.models.catalogue import find_present
from passionsr_cli.registry import EMBEDDED_MODEL
from passionsr_cli.reproduction.definitions import read_table
from passionsr_cli.reproduction.results import Table
from passionsr_cli.reproduction.settings import ReproductionSettings
from passionsr_cli.reproduction.writing import markdown
from passionsr_cli.terminal.progress import CurrentBar

README = Path(__file__).parent / "README.md"
TABLES = ("methods", "passionsr-table2", "passionsr-table4", "qartsr-table3", "qartsr-ablation")
# What the weights at hand allow, where a table wants more.
METRICS = ("psnr", "ssim", "niqe")


def made(name: str, folder: Path, limit: int | None) -> Table:
    """One table of the embedded model on RealSR."""
    settings = ReproductionSettings(
        table=name,
        data_root=Path(os.environ["PASSIONSR_REALSR"]),
        metric_weights=Path(os.environ["PASSIONSR_NIQE"]).parent,
        metrics=read_table(name).metrics or METRICS,
        config="quick",
        limit=limit,
        output=folder / name,
    )
    with CurrentBar() as bar:
        return api.reproduce(settings, bar)


def replaced(text: str, name: str, table: str) -> str:
    """A page with this table between its marks, in place of what stood there."""
    begin, end = f"<!-- table {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, also_found, after = rest.partition(end)
    if not (found and also_found):
        raise SystemExit(f"{README}: the lines '{begin.strip()}' and '{end}' are not there")
    return f"{before}{begin}{table}{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("tables", nargs="*", default=TABLES)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    os.environ["PASSIONSR_HOME"] = str((options.folder / "home").resolve())
    weights = find_present(EMBEDDED_MODEL).sha256[:12]
    for name in options.tables:
        table = markdown(made(name, options.folder, options.limit)).replace("# ", "### ", 1)
        table += f"\nOf version {__version__}, weights {weights}…\n"
        print(table, flush=True)
        if options.limit is None:
            README.write_text(replaced(README.read_text("utf-8"), name, table), "utf-8")


if __name__ == "__main__":
    main()
