"""The report (notebook 05): its sentences, tables and charts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "answer_report": ["what_would_change"],
        "bottom_line_text": ["bottom_line"],
        "charts": ["prompt_lengths"],
        "comparison_report": ["comparison_summary", "comparison_table"],
        "cost_report": [
            "capacity_table",
            "cheapest_by_traffic",
            "cost_table",
            "price_table",
            "run_cost_table",
            "traffic_table",
        ],
        "deployment_report": ["deployments_table"],
        "display": ["section"],
        "endpoint_tables": ["preflight_table"],
        "figures": ["draw_figures", "read_figures"],
        "instrument_report": [
            "calibration_table",
            "connection_table",
            "instrument_table",
            "pacing_table",
            "steadiness_table",
        ],
        "load_report": ["recommendations"],
        "plan_report": ["plan_table", "quota_table"],
        "race_report": ["race_table"],
        "readings": ["interval_reading", "options_reading", "price_reading"],
        "report": [
            "definitions",
            "errors_table",
            "figure",
            "how_to_recompute",
            "load_point_table",
            "machine_and_versions",
            "options_table",
            "prompt_samples",
            "prompts_table",
            "resolved_config",
            "summary",
            "table_files",
            "winner_table",
            "written_files",
        ],
        "visit_report": ["visit_table"],
        "warning_report": ["warning_list"],
    },
)
