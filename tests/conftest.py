"""What all tests share by pytest's own rules."""

from hypothesis import Phase, settings

# For the mutation check: whether an example fails is all it asks, and shrinking takes minutes.
settings.register_profile("no-shrinking", phases=[Phase.explicit, Phase.generate])
