"""Published measures of chain-of-thought faithfulness, each as a function of a model and a transcript."""
