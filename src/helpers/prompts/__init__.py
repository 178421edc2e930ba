"""The prompts of a run (notebook 01): made from a source, brought to a length, counted in tokens."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "making": ["make_prompts"],
    },
)
