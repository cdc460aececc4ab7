"""Networks and models, one file a family; `registry.py` names them."""
