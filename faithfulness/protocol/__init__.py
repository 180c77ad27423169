"""How measures of faithfulness are compared: metrics, intervals and nulls."""
