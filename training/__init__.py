"""Train transcoders on a model's own activations, and measure how well they stand in for its MLPs.

from cotrace.training import Config, measure, resume_run, train_run
folder = train_run(Config(data=("texts/",), width=1024), "run")
print(measure([folder], run="run"))
"""

from .config import Config
from .evaluate import EVERYDAY_PROMPTS, Result
from .run import measure, resume_run, save_results, train_run

__all__ = ["EVERYDAY_PROMPTS", "Config", "Result", "measure", "resume_run", "save_results", "train_run"]
