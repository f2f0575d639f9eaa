"""Evaluation of models on data sets: pairs, candidates, scores, reports."""
