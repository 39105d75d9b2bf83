"""What training minimises, a module for each part of the network."""
