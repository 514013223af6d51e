"""What a trained generator is for: pictures, text, damaged photographs, extra training data."""
