"""Adaptive test-time training: where should the inner steps go when each costs compute?"""
