"""The measurements. A part is a function `(report, size, **arguments)` that reports figures as soon as it has them."""
