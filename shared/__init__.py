"""What both programs share: words, rows, wire. It knows neither of them."""
