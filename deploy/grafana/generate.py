"""Writes the dashboards: `python deploy/grafana/generate.py`, with `--check` only tells whether they are fresh."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardLinkType, DataSourceRef, VariableRefresh
from panels import BOARDS, Board, Panel

FOLDER = Path(__file__).parent / "dashboards"
# Grafana's grid is 24 wide.
WIDTHS = {"stat": 4, "lines": 12, "table": 12}
HEIGHTS = {"stat": 4, "lines": 8, "table": 8}
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


def visual(panel: Panel) -> Any:
    kinds: dict[str, Callable[[], Any]] = {"stat": stat.Panel, "lines": timeseries.Panel, "table": table.Panel}
    made = kinds[panel.kind]().title(panel.title).description(panel.description).unit(panel.unit).datasource(SOURCE)
    made = made.span(panel.width or WIDTHS[panel.kind]).height(HEIGHTS[panel.kind])
    if panel.kind == "lines":
        made = made.fill_opacity(8).line_width(1).span_nulls(False)
    for place, (expr, legend) in enumerate(panel.queries):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + place)).datasource(SOURCE)
        made = made.with_target(query if panel.kind == "lines" else query.instant())
    return made


def build(board: Board) -> str:
    """The JSON of a dashboard."""
    made = (
        dashboard.Dashboard(f"Fishy Watch / {board.title}")
        .uid(f"fishy-{board.name}")
        .description(board.description)
        .tags(["fishy-watch"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .readonly()
        .link(
            dashboard.DashboardLink("Fishy Watch")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["fishy-watch"])
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for name, query in board.variables.items():
        made = made.with_variable(
            dashboard.QueryVariable(name)
            .label(name)
            .query(query)
            .datasource(SOURCE)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    for panel in board.panels:
        made = made.with_row(dashboard.Row(panel)) if isinstance(panel, str) else made.with_panel(visual(panel))
    return json.dumps(json.loads(JSONEncoder(sort_keys=True).encode(made.build())), indent=2) + "\n"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true")
    is_check = arguments.parse_args().check
    wanted = {f"{board.name}.json": build(board) for board in BOARDS}
    present = {file.name: file.read_text() for file in FOLDER.glob("*.json")}
    stale = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    if is_check:
        if stale:
            print(f"stale: {', '.join(stale)}: run python deploy/grafana/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name])
        else:
            (FOLDER / name).unlink()
        print(f"wrote {FOLDER / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
