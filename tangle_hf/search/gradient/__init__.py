"""Methods of one stage: shares of the choices trained along with the weights."""
