"""Recordings of other kinds, brought to rosbag2."""
