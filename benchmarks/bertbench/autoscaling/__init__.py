"""The wait that the autoscaler reads of a real server under load, through a real Prometheus, by the adapter's rule."""
