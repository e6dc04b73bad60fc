"""What a network can be trained for: which rows, which loss, which score."""
