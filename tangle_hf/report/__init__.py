"""`report.html`: everything that a run has left, as one page that opens from disk in any browser."""
