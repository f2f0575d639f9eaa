"""How good models are on data sets: pairs, rows of one table, reports."""
