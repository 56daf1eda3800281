from tests.faults.product import product

__all__ = ["product"]
