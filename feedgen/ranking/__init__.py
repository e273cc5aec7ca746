"""What an item is worth to a device, as part of its key in the device's window."""
