"""What many processes share: named texts and bytes, behind one protocol."""
