"""What runs before and around training, on Apache Beam."""
