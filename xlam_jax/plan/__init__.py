"""Does it fit, how fast, what does it cost: answered from the spec table before a device is booked."""
