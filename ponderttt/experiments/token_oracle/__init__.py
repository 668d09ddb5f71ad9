"""What is there to gain from choosing K for single tokens?"""
