"""`FeatureCard`: what is known of a feature, as text and as HTML."""

from dataclasses import dataclass, fields
from typing import Any

from cotrace.graphs.nodes import Feature

from .card_data import CardData
from .card_html import card_html
from .card_text import card_text


@dataclass(frozen=True, repr=False)
class FeatureCard(CardData):
    """What is known of a feature. `print(card)` shows it; a notebook shows it as HTML.

    `count` and `markup_count` are the numbers of text tokens and of chat markup tokens at which it is active; `density` and
    `markup_density` their shares. `mean` and `max` are of its activations in text. `histogram` counts activations by magnitude, in the bins of
    `schema.HISTOGRAM_BINS`. Examples come strongest first.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the card as values that JSON can hold."""
        values = {field.name: _plain(getattr(self, field.name)) for field in fields(self)}
        return values | {"out_of_format": self.out_of_format}

    def __str__(self) -> str:
        return card_text(self)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return card_html(self)


def _plain(value: Any) -> Any:
    """Return a value with features as text, and named tuples as dictionaries."""
    if isinstance(value, Feature):
        return str(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
