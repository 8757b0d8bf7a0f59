"""From an anomaly map to a judgement: score, thresholds, verdict, defects, pictures."""
