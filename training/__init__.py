"""Train transcoders on a model's own activations, and measure how well they replace its MLPs.

    from cotrace.training import TrainingConfig, resume_training, train_transcoders
    folder = train_transcoders(TrainingConfig(data=("texts/",), width=1024), "run")

`cotrace.evaluate_transcoders` measures the result.
"""

from .config import TrainingConfig
from .replacement_metrics import TranscoderEvaluation
from .run import resume_training, train_transcoders

__all__ = ["TrainingConfig", "TranscoderEvaluation", "resume_training", "train_transcoders"]
