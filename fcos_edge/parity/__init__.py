"""Parity: is what runs here the detector that was trained, and what does it cost?"""
