"""How a search ends: a few nets, those that it proposes and those that a person would cut, trained briefly and halved."""
