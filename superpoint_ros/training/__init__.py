"""Training from nothing: Synthetic Shapes, Homographic Adaptation, joint training (paper, sections 4 to 6)."""
