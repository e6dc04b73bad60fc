"""Evaluation of predictions: scores, baselines, calibration, and spread over seeds."""
