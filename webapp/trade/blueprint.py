"""One blueprint for every address below /trade."""

from flask import Blueprint

bp = Blueprint("trade", __name__, url_prefix="/trade")
