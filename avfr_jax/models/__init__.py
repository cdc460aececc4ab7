"""Networks and models, one file a family; `avfr_jax.families` has a record of each."""
