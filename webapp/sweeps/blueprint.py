"""One blueprint for every address below /research/sweeps."""

from flask import Blueprint

bp = Blueprint("sweeps", __name__, url_prefix="/research/sweeps")
