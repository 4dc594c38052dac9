"""The charts of all pages: values in, Markup with inline SVG out."""

from fcos_edge.report.charts.columns import Columns, grouped_bars, histogram
from fcos_edge.report.charts.frame import Mark
from fcos_edge.report.charts.lines import Line, line_chart
from fcos_edge.report.charts.points import Cloud, Point, cloud_chart, scatter_chart
from fcos_edge.report.charts.rows import Interval, Samples, box_plots, interval_bars

__all__ = [
    "line_chart", "Line", "Mark",
    "interval_bars", "Interval", "box_plots", "Samples",
    "scatter_chart", "Point", "cloud_chart", "Cloud",
    "grouped_bars", "Columns", "histogram",
]  # fmt: skip
