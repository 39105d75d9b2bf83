"""The detector as a plain Python program that speaks DDS, ROS 2's wire protocol, without a ROS 2 install.

`node.Node` is a node with publishers and subscriptions.
"""
