"""From the supernet to a checkpoint of its own: cut out, written, converted, its batch norms recalibrated."""
