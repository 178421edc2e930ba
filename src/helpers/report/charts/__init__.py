"""The figures of a run. Each function draws one SVG into a folder and returns it with its alternative text.

One colour per option in every figure (Okabe and Ito's palette, safe for colour-blind readers), one panel per dataset.
Infinite values (percentiles that touch a failed request) cannot be drawn; captions say how many are left out. Load points
that the client limited are crossed out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "capacity": ["bill_by_traffic"],
        "day": ["day_of_traffic"],
        "load_points": ["error_rates", "latency_by_load", "throughput_by_load"],
        "price": ["price_performance"],
        "race": ["race_figure", "race_picture"],
        "requests": [
            "at_highest_shared_level",
            "at_lowest_level",
            "distribution",
            "latency_by_mean_prompt_length",
            "latency_by_prompt_length",
            "prompt_lengths",
        ],
        "server": ["server_load"],
        "standing": ["verdict_picture"],
    },
)
