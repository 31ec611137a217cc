from ._cramer_rao import cramer_rao as cramer_rao
from ._positions import PositionMatch as PositionMatch
from ._positions import match_positions as match_positions

__all__ = ["PositionMatch", "cramer_rao", "match_positions"]
