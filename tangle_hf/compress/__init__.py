"""What makes a trained checkpoint a good supernet: its units in order of importance, its layers ranked."""
